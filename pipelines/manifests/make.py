"""`cubereel manifest make`: the manifest of a folder of class folders, to be filled in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from features_store.errors import ContractError, UsageError
from features_store.format.records import check_id
from features_store.manifest import FILE_NAME, is_csv, write_manifest
from pipelines.extraction.adapters import class_folders


@dataclass(frozen=True)
class MakeReport:
    """A manifest that was written; `labels` counts the videos of each class."""

    manifest: str
    num_videos: int
    labels: dict[str, int]
    notes: tuple[str, ...]


def make(folder: Path, *, out: Path | None = None) -> MakeReport:
    """Write the manifest of the videos below a folder, each with the id that `extract` gives it.

    Args:
        out: the CSV, a new file; None is `manifest.csv` in the folder.

    Raises:
        UsageError: there is no such folder, or `out` is there already or no CSV.
        ContractError: it holds no video.
    """
    if not folder.is_dir():
        raise UsageError(f"{str(folder)!r} is no folder; give a folder of class folders")
    path = folder / FILE_NAME if out is None else out
    if not is_csv(path):
        raise UsageError(f"`out` must be the name of a .csv file, got {str(path)!r}")
    if path.exists():
        raise UsageError(f"{path} is there already; give another file with `out`, or remove it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {str(path.parent)!r} for {path.name!r}")
    listed = class_folders.read(folder)
    if not listed.rows:
        raise ContractError(f"{folder} holds no video {' '.join(listed.notes)}".rstrip())
    for row in listed.rows:
        check_id(row.path)
    prefix = _prefix(folder.absolute(), path.parent.absolute())
    write_manifest(
        path, (replace(row, video_id=row.path, path=prefix + row.path) for row in listed.rows)
    )
    labels = Counter(row.label for row in listed.rows)
    return MakeReport(str(path), len(listed.rows), dict(sorted(labels.items())), listed.notes)


def _prefix(folder: Path, beside: Path) -> str:
    """Return what leads from the folder of the CSV to that of the videos; else all of the path."""
    if not folder.is_relative_to(beside):
        return f"{folder}/"
    below = folder.relative_to(beside).as_posix()
    return "" if below == "." else f"{below}/"
