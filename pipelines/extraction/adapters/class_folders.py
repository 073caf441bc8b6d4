"""A folder of class folders: each video's label is the name of the folder that it lies in."""

from __future__ import annotations

import os
from pathlib import Path

from features_store.manifest import ManifestRow

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)


def recognises(source: Path) -> bool:
    """Whether the source is of this form."""
    return source.is_dir()


def read_rows(source: Path) -> list[ManifestRow]:
    """Return every video below a folder, labelled by the folder it lies in."""
    rows = []
    seen = set()
    top = str(source)
    for parent, folders, files in os.walk(top, followlinks=True, onerror=_raise):
        if (real := os.path.realpath(parent)) in seen:
            continue  # links that lead round in a circle
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        below = parent[len(top) :].strip("/")
        for name in sorted(files):
            if name.lower().endswith(VIDEO_SUFFIXES) and not name.startswith("."):
                path = f"{below}/{name}" if below else name
                rows.append(ManifestRow("", path, label=below.rpartition("/")[2]))
    return rows


def _raise(error: OSError) -> None:
    raise error
