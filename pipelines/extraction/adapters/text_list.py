"""A list of paths, one a line, each taken to the character.

A line that begins with ``# `` is a comment, unless there is a file of that name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from features_store.errors import ContractError
from features_store.manifest import ManifestRow
from features_store.text_files import read_text
from pipelines.extraction.adapters import Listed
from pipelines.extraction.adapters.class_folders import VIDEO_SUFFIXES

COMMENT = "# "
_SUFFIX = "|".join(map(re.escape, VIDEO_SUFFIXES))
_AND_MORE = re.compile(rf"(.*(?:{_SUFFIX}))[\s,;|]+\S.*", re.IGNORECASE)
_HEADER = re.compile(r"(?:video_id|path|label)\s*[,;\t|].*", re.IGNORECASE)
MAX_LIST_BYTES = 2**27


def recognises(source: Path) -> bool:
    """Whether the source is of this form: any file that no other form has."""
    return not source.is_dir()


def read(source: Path) -> Listed:
    """Return its rows, with paths alone.

    Raises:
        ContractError: it is no text, or its lines are more than paths.
    """
    text = read_text(source, what="list of paths", most_bytes=MAX_LIST_BYTES)
    rows, num_there, folder = [], 0, str(source.parent)
    for number, line in enumerate(text.split("\n"), 1):  # other marks may stand in names
        path = line.removesuffix("\r")
        is_there = bool(path) and _is_there(folder, path)
        if not is_there:
            if not path.strip() or f"{path} ".startswith(COMMENT):
                continue
            _check_alone(path, f"{source}, line {number}")
        rows.append(ManifestRow("", path))
        num_there += is_there
    if rows and not num_there:
        raise ContractError(
            f"{source}: no line of it is a file; first: {rows[0].path!r}. Paths in a list begin at "
            f"its folder, {source.parent.absolute()}, or with '/'"
        )
    return Listed(rows, frozenset({"path"}))


def _is_there(folder: str, path: str) -> bool:
    # In plain strings, as there may be 240,000 of them.
    return os.path.exists(path if path.startswith("/") else f"{folder}/{path}")  # noqa: PTH110


def _check_alone(path: str, where: str) -> None:
    """Raise `ContractError` for a line that is no file, and is not written as a path is."""
    if path.startswith("#") and not path.lower().endswith(VIDEO_SUFFIXES):
        raise ContractError(
            f"{where}: there is no file {path!r}; a comment begins with {COMMENT!r}, with a blank"
        )
    if _HEADER.fullmatch(path):
        raise ContractError(
            f"{where}: {path!r} is the header of a table; write the table with commas into a file "
            "whose name ends in .csv"
        )
    if found := _AND_MORE.fullmatch(path):
        raise ContractError(
            f"{where}: {path!r} is no file, and looks like {found[1]!r} with more behind it; a "
            "list holds paths alone, labels stand in a CSV with the columns path,label"
        )
