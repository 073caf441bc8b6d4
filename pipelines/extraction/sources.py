"""SOURCE: a folder of class folders, a manifest CSV, a folder that holds one, or a text list.

Whatever it is, it becomes manifest rows and a root that their paths are relative to. A video's id
is its path relative to the root, never its stem.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Protocol

from features_store.errors import ContractError, UsageError
from features_store.format.records import check_id
from features_store.manifest import ManifestRow, span_id
from pipelines.extraction import adapters

# Modules of `pipelines.extraction.adapters`; the first that recognises a source reads it.
ADAPTERS = ("manifest_csv", "class_folders", "text_list")


class Adapter(Protocol):
    """What reads one form in which data sets come; a module."""

    def recognises(self, source: Path) -> bool:
        """Whether a source is of this form."""

    def read_rows(self, source: Path) -> list[ManifestRow]:
        """Return what it says of each video; relative paths begin at its folder."""


@dataclass(frozen=True)
class Source:
    """Videos and the folder that their paths are relative to."""

    root: Path
    rows: tuple[ManifestRow, ...]

    def path(self, row: ManifestRow) -> Path:
        """Return where a row's video is."""
        return self.root / row.path


def require_source(source: Path) -> None:
    """Raise `UsageError` where there is nothing of that name."""
    if not source.exists():
        raise UsageError(f"no source {str(source)!r}; give a folder, a manifest CSV or a list")


def read_source(source: Path, *, root: Path | None = None) -> Source:
    """Read any kind of source.

    Raises:
        UsageError: there is nothing of that name.
        ContractError: it holds no videos, or its manifest is wrong.
    """
    require_source(source)
    modules = (import_module(f"{adapters.__name__}.{name}") for name in ADAPTERS)
    adapter: Adapter = next(module for module in modules if module.recognises(source))
    rows = adapter.read_rows(source)
    if not rows:
        raise ContractError(
            f"{source} names no video; a folder of class folders, a CSV with a column 'path' "
            "or a list of paths, one a line, is expected"
        )
    folder = source if source.is_dir() else source.parent
    return _relative_to(_choose_root(rows, folder, root), rows, folder)


def _choose_root(rows: Sequence[ManifestRow], folder: Path, root: Path | None) -> Path:
    """Return ``--root``, else the source's folder, else the common parent of absolute paths."""
    if root is not None:
        return Path(os.path.normpath(root.absolute()))
    if all(row.path.startswith("/") for row in rows):
        return Path(os.path.commonpath({row.path.rpartition("/")[0] or "/" for row in rows}))
    return Path(os.path.normpath(folder.absolute()))


def _relative_to(root: Path, rows: Sequence[ManifestRow], folder: Path) -> Source:
    """Rewrite every path relative to the root; give ids to rows that have none.

    In plain strings: a `Path` for each of 240,000 rows takes ten seconds.
    """
    result: dict[str, ManifestRow] = {}
    base, top = f"{folder.absolute()}/", f"{root}/".replace("//", "/")
    for row in rows:
        absolute = os.path.normpath(row.path if row.path.startswith("/") else base + row.path)
        if not absolute.startswith(top):
            raise ContractError(
                f"video {row.path!r} lies outside the root {root}; give a higher folder with `root`"
            )
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
    return Source(root, tuple(result.values()))


def _span(row: ManifestRow) -> tuple[float | None, float | None]:
    return row.start_seconds, row.end_seconds
