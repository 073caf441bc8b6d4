"""The file of a picture: a film or a strip by its ending, and written whole or not at all."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image

from features_store.errors import UsageError
from features_store.format.outputs import write_atomically
from features_store.paths import NEW_FOLDER
from pipelines.explain.drawing import Drawing
from pipelines.explain.film import film_bytes
from pipelines.explain.strip import strip_page


def strip_bytes(drawing: Drawing) -> bytes:
    """Return a strip as PNG."""
    file = BytesIO()
    Image.fromarray(strip_page(drawing).pixels()).save(file, "PNG")
    return file.getvalue()


KINDS = {".mp4": film_bytes, ".png": strip_bytes}


def check_picture(path: Path) -> None:
    """Raise `UsageError` unless a film or a strip can be written under that name."""
    if path.suffix not in KINDS:
        raise UsageError(f"`out` must end in .mp4 or .png, got {path.name!r}")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give `out` the name of a file")
    NEW_FOLDER.require(path.parent)


def write_picture(path: Path, drawing: Drawing) -> None:
    """Write a film or a strip, as the file's ending says, and the folder it is in."""
    content = KINDS[path.suffix](drawing)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
