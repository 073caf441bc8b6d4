"""From a TOML file and flags to a validated configuration; a flag wins over the file."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from features_store.errors import UsageError
from train.fitting.config import TrainConfig, parse_config


def merge_config(path: Path | None, flags: dict[str, Any]) -> TrainConfig:
    """Return the configuration of a file, overridden by every flag that was given."""
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
            raise UsageError(f"configuration {path} cannot be read: {err}") from err
    given = {name: value for name, value in flags.items() if value not in (None, [])}
    return parse_config(values | given)


def parse_settings(settings: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of ``--set name=value``.

    >>> parse_settings(["hidden=256"])
    [('hidden', '256')]
    """
    pairs = []
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise UsageError(f"--set must be name=value, got {setting!r}")
        pairs.append((name, value))
    return pairs
