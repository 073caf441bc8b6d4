"""From a TOML file and flags to a validated configuration; a flag wins over the file."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from features_store.errors import UsageError
from train.data.kinds import refuse_votes


def merge_settings(path: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """Return the options of training in a file, overridden by every flag that was given.

    They are not validated yet: that takes pydantic, and what else is wrong can be said before.

    Raises:
        UsageError: the file cannot be read, or options do not go together.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
            raise UsageError(f"configuration {path} cannot be read: {err}") from err
    merged = values | flags
    refuse_votes(
        multi_label=merged.get("multi_label") is True, aggregate=merged.get("aggregate", "mean")
    )
    return merged


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
