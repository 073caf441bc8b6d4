"""A list of paths, one a line; lines that begin with ``#`` are left out."""

from __future__ import annotations

from pathlib import Path

from features_store.errors import ContractError
from features_store.manifest import ManifestRow


def recognises(source: Path) -> bool:
    """Whether the source is of this form: any file that no other form has."""
    return not source.is_dir()


def read_rows(source: Path) -> list[ManifestRow]:
    """Return its rows, with paths alone; `ContractError` if it is no text."""
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise ContractError(
            f"{source} is neither a folder nor a readable text list: {err}; "
            "to extract one video, list it in a text file"
        ) from err
    names = [line.strip() for line in lines]
    return [ManifestRow("", name) for name in names if name and not name.startswith("#")]
