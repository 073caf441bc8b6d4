"""One video file, or those that a pattern such as ``videos/*/*.mp4`` matches.

Of a pattern every file counts, labelled by the folder that it lies in below the part without
wildcards, as in a folder of class folders.
"""

from __future__ import annotations

import glob
from pathlib import Path

from features_store.manifest import ManifestRow
from features_store.paths import fixed_folder, is_pattern
from pipelines.extraction.adapters import Listed
from pipelines.extraction.adapters.class_folders import VIDEO_SUFFIXES

NUM_SNIFFED = 4096
_TEXT_MARKS = (b"\xff\xfe", b"\xfe\xff")  # of UTF-16, which is full of NULs


def recognises(source: Path) -> bool:
    """Whether the source is of this form."""
    if is_pattern(source):
        return True
    is_named_so = source.suffix.lower() in VIDEO_SUFFIXES
    return source.is_file() and (is_named_so or _is_binary(source))


def read(source: Path) -> Listed:
    """Return a row for each file."""
    if not is_pattern(source):
        return Listed([ManifestRow("", source.name)], frozenset({"path"}))
    found = glob.iglob(str(source), recursive=True)  # noqa: PTH207 (the pattern may be absolute)
    paths = sorted({Path(name) for name in found if Path(name).is_file()})
    below = [path.relative_to(fixed_folder(source)) for path in paths]
    rows = [ManifestRow("", path.as_posix(), label=path.parent.name) for path in below]
    return Listed(rows, frozenset({"path", "label"}))


def _is_binary(source: Path) -> bool:
    with source.open("rb") as file:
        head = file.read(NUM_SNIFFED)
    return b"\0" in head and not head.startswith(_TEXT_MARKS) and any(head[::2]) and any(head[1::2])
