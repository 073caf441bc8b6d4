"""`npy`: a file a video, `<id>.npy`, T×D, as ActionFormer and OpenTAD read them.

Beside them stands `annotations.json` (see `annotation_file`). Not kept: the cells of K×K cubes, the
times of frames where they are not regular, frame differences, other layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features_store.errors import UsageError
from features_store.exchange.array_files import ArrayHeader, NpyArray, write_npy
from features_store.exchange.export_folder import ExportFolder
from features_store.exchange.features import Features
from features_store.exchange.formats import per_video
from features_store.exchange.options import ImportOptions
from features_store.exchange.selection import Selection

KEEPS: tuple[str, ...] = ()
HAS_CELLS = False
OPTIONS = per_video.OPTIONS
SUFFIX = ".npy"


def check_export(selection: Selection) -> None:
    """Raise `UsageError` for ids that cannot all be files, and for times that are not regular."""
    if irregular := selection.irregular:
        raise UsageError(
            f"{len(irregular)} videos have frames at irregular times, which this format cannot "
            f"say; first: {irregular[0]!r}; take `kind` npz"
        )
    per_video.check_export(selection, SUFFIX)


def export(selection: Selection, target: ExportFolder) -> None:
    """Write a file a video, then the annotations."""

    def write(video_id: str, path: Path) -> None:
        write_npy(path, selection.vectors(video_id))

    per_video.export(selection, target, SUFFIX, write)


@contextmanager
def open_features(source: Path, options: ImportOptions) -> Iterator[Features]:
    """Find all .npy files below a folder; a video's id is its path without the suffix."""
    yield per_video.features(source, options, SUFFIX, _Source)


class _Source:
    """One .npy file."""

    read_times = None

    def __init__(self, path: Path) -> None:
        self._array = NpyArray(path)

    @property
    def header(self) -> ArrayHeader:
        return self._array.header

    @contextmanager
    def open(self) -> Iterator[per_video.AsCubes]:
        yield per_video.AsCubes(self._array)
