"""SOURCE: a folder of class folders, a manifest CSV, a folder that holds one, a text list, videos.

Whatever it is, it becomes manifest rows and a root that their paths are relative to. A video's id
is its path relative to the root, never its stem.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Protocol

from extract.video.picture_folders import PICTURE_SUFFIXES, video_of_pictures
from features_store.checks import doubts_of, refuse_faults
from features_store.errors import ContractError
from features_store.format.records import check_id
from features_store.labels import classes_of
from features_store.manifest import ManifestRow, span_id
from features_store.paths import FOLDER, SOURCE, fixed_folder
from pipelines.extraction import adapters

# Modules of `pipelines.extraction.adapters`; the first that recognises a source reads it.
ADAPTERS = ("video_files", "manifest_csv", "class_folders", "text_list")

LOOKED_INTO = 100  # folders of a source without a video, to say what is there instead


class Adapter(Protocol):
    """What reads one form in which data sets come; a module."""

    def recognises(self, source: Path) -> bool:
        """Whether a source is of this form."""

    def read(self, source: Path) -> adapters.Listed:
        """Return what it says of each video."""


@dataclass(frozen=True)
class Source:
    """Videos and the folder that their paths are relative to.

    Attributes:
        columns: of a manifest that the source speaks of.
        notes: what was passed over, and what may be a slip.
    """

    root: Path
    rows: tuple[ManifestRow, ...]
    columns: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def path(self, row: ManifestRow) -> Path:
        """Return where a row's video is."""
        return self.root / row.path


def read_source(source: Path, *, root: Path | None = None) -> Source:
    """Read any kind of source.

    Raises:
        UsageError: there is nothing of that name.
        ContractError: it holds no videos, or its manifest is wrong.
    """
    SOURCE.require(source)
    modules = (import_module(f"{adapters.__name__}.{name}") for name in ADAPTERS)
    adapter: Adapter = next(module for module in modules if module.recognises(source))
    listed = adapter.read(source)
    if not listed.rows:
        raise ContractError(
            f"{source} names no video; {_expected_in(source)}{_because(listed.notes)}"
        )
    folder = source if source.is_dir() else fixed_folder(source)
    root = _choose_root(listed.rows, folder, root)
    rows = _relative_to(root, listed.rows, folder)
    refuse_faults(rows, where=source)
    for row in {row.label: row for row in rows}.values():
        classes_of(row)  # may say what is wrong with it, hours before it is trained on
    return Source(root, rows, listed.columns, (*listed.notes, *doubts_of(rows)))


def _because(notes: Sequence[str]) -> str:
    return "".join(f" ({note})" for note in notes)


def _expected_in(source: Path) -> str:
    """Say what would be videos; of a folder of pictures, how they become one."""
    if source.is_dir():
        for parent, _, names in islice(os.walk(source), LOOKED_INTO):
            pictures = sum(name.lower().endswith(PICTURE_SUFFIXES) for name in names)
            if pictures:
                return f"{parent} holds {pictures} pictures: {video_of_pictures(parent, names)}"
    return (
        "a folder of class folders, a CSV with a column 'path' or a list of paths, one a line, is "
        "expected"
    )


def _choose_root(rows: Sequence[ManifestRow], folder: Path, root: Path | None) -> Path:
    """Return ``--root``, else the source's folder, else the common parent of absolute paths."""
    if root is not None:
        return Path(os.path.normpath(FOLDER.require(root).absolute()))
    if all(row.path.startswith("/") for row in rows):
        return Path(os.path.commonpath({row.path.rpartition("/")[0] or "/" for row in rows}))
    return Path(os.path.normpath(folder.absolute()))


def _relative_to(root: Path, rows: Sequence[ManifestRow], folder: Path) -> tuple[ManifestRow, ...]:
    """Rewrite every path relative to the root; give ids to rows that have none.

    In plain strings: a `Path` for each of 240,000 rows takes ten seconds.
    """
    result: dict[str, ManifestRow] = {}
    base, top = f"{folder.absolute()}/", os.path.join(root, "")  # noqa: PTH118
    for row in rows:
        absolute = os.path.normpath(row.path if row.path.startswith("/") else base + row.path)
        if not absolute.startswith(top):
            raise ContractError(_outside(row.path, absolute, root, folder))
        if row.path != row.path.strip():
            _check_blanks(row.path, absolute, base)
        path = absolute[len(top) :]
        if path != row.path or not row.video_id:
            derived = row.video_id in ("", span_id(row.path.lstrip("/"), *_span(row)))
            video_id = span_id(path, *_span(row)) if derived else row.video_id
            check_id(video_id)
            row = replace(row, video_id=video_id, path=path)
        if row.video_id in result:
            raise ContractError(
                f"video id {row.video_id!r} stands twice in the source; list each video once"
            )
        result[row.video_id] = row
    return tuple(result.values())


def _check_blanks(path: str, absolute: str, base: str) -> None:
    """Raise `ContractError` where white space at an end of a path is a slip of the pen."""
    stripped = path.strip()
    meant = stripped if stripped.startswith("/") else base + stripped
    if not os.path.lexists(absolute) and os.path.lexists(meant):
        raise ContractError(
            f"there is no file {path!r}, with white space at an end, but there is {stripped!r}; "
            "take the white space out"
        )


def _outside(path: str, absolute: str, root: Path, folder: Path) -> str:
    """Say why a row's video does not lie below the root, and what to do."""
    if path.startswith("/"):
        return f"video {path!r} lies outside the root {root}; give a higher folder with `root`"
    said = (
        f"video {path!r} is {absolute!r}, outside the root {root}: relative paths begin at the "
        f"folder of the file that names them, {folder}; "
    )
    if (root / path).exists():
        return f"{said}it does lie below the root, so move that file there, or write absolute paths"
    return f"{said}give `root` a folder above that, or write absolute paths"


def _span(row: ManifestRow) -> tuple[float | None, float | None]:
    return row.start_seconds, row.end_seconds
