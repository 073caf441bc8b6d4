"""A manifest CSV, or a folder that holds one."""

from __future__ import annotations

from pathlib import Path

from features_store.manifest import FILE_NAME, is_csv, manifest_columns, read_manifest
from pipelines.extraction.adapters import Listed


def recognises(source: Path) -> bool:
    """Whether the source is of this form."""
    return is_csv(source) or (source.is_dir() and (source / FILE_NAME).is_file())


def read(source: Path) -> Listed:
    """Return its rows; `ContractError` if they are wrong."""
    path = source / FILE_NAME if source.is_dir() else source
    return Listed(read_manifest(path), frozenset(manifest_columns(path)))
