"""Where things are remembered between runs that can be found out again."""

from __future__ import annotations

import os
from pathlib import Path

from features_store.errors import UsageError


def cache_folder(kind: str, *, option: str = "") -> Path:
    """Return ``$XDG_CACHE_HOME/cubereel/<kind>``, below ``~/.cache`` when that is not set.

    Args:
        option: with which the user names another folder, if there is one.

    Raises:
        UsageError: the user has no home folder, as in some containers.
    """
    said = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if said.is_absolute():
        return said / "cubereel" / kind
    try:
        return Path.home() / ".cache" / "cubereel" / kind
    except RuntimeError as err:
        advice = f"give `{option}` FOLDER, or set" if option else "set"
        raise UsageError(
            f"this user has no home folder to remember {kind} in; {advice} XDG_CACHE_HOME to one"
        ) from err
