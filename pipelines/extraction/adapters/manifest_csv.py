"""A manifest CSV, or a folder that holds one."""

from __future__ import annotations

from pathlib import Path

from features_store.manifest import FILE_NAME, ManifestRow, read_manifest


def recognises(source: Path) -> bool:
    """Whether the source is of this form."""
    return source.suffix == ".csv" or (source.is_dir() and (source / FILE_NAME).is_file())


def read_rows(source: Path) -> list[ManifestRow]:
    """Return its rows; `ContractError` if they are wrong."""
    return read_manifest(source / FILE_NAME if source.is_dir() else source)
