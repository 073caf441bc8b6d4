"""From a TOML file and flags to a validated configuration; a flag wins over the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features_store.errors import UsageError, nearest_name
from features_store.format.inputs import read_toml
from features_store.paths import CONFIG
from train.data.kinds import refuse_votes


def merge_settings(
    path: Path | None, flags: dict[str, Any], *, keys: Mapping[str, str]
) -> dict[str, Any]:
    """Return the options of training in a file, overridden by every flag that was given.

    They are not validated yet: that takes pydantic, and what else is wrong can be said before.

    Args:
        keys: that the file may have, the names of flags -> the options that they are of.

    Raises:
        UsageError: the file cannot be read or has another key, or options do not go together.
    """
    values = {} if path is None else _read(CONFIG.require(path), keys)
    merged = values | flags
    refuse_votes(
        multi_label=merged.get("multi_label") is True, aggregate=merged.get("aggregate", "mean")
    )
    return merged


def _read(path: Path, keys: Mapping[str, str]) -> dict[str, Any]:
    try:
        document = read_toml(path)
    except (OSError, ValueError) as err:
        raise UsageError(f"configuration {path} cannot be read: {err}") from err
    for key in document:
        if key not in keys:
            raise UsageError(
                f"configuration {path} has {key!r}, and its keys are flags of training without "
                f"the dashes before them; {nearest_name(key, list(keys))}"
            )
    return {keys[key]: value for key, value in document.items()}


def parse_settings(settings: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of ``name=value``.

    >>> parse_settings(["hidden=256"])
    [('hidden', '256')]
    """
    pairs = []
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise UsageError(f"`settings` must be name=value, got {setting!r}")
        pairs.append((name, value))
    return pairs
