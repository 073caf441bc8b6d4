"""`npz`: a file a video, `<id>.npz`, with an array `feats` T×D, as OpenTAD reads them.

The times of frames are kept in two further arrays, `pts_seconds` and `frame_index`. Beside the
files stands `annotations.json` (see `annotation_file`). Not kept: the cells of K×K cubes, frame
differences, other layers. An import takes `feats`, or the only array there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from features_store.errors import StoreError
from features_store.exchange.array_files import ArrayHeader, NpzFile, write_npz
from features_store.exchange.export_folder import ExportFolder
from features_store.exchange.features import Features
from features_store.exchange.formats import per_video
from features_store.exchange.options import ImportOptions
from features_store.exchange.selection import Selection

KEEPS: tuple[str, ...] = ("exact times",)
HAS_CELLS = False
OPTIONS = per_video.OPTIONS
SUFFIX = ".npz"
ARRAY = "feats"
TIMES = ("pts_seconds", "frame_index")


def check_export(selection: Selection) -> None:
    """Raise `UsageError` for ids that cannot all be files."""
    per_video.check_export(selection, SUFFIX)


def export(selection: Selection, target: ExportFolder) -> None:
    """Write a file a video, then the annotations."""

    def write(video_id: str, path: Path) -> None:
        times = {name: selection.array(video_id, name) for name in TIMES}
        write_npz(path, {ARRAY: selection.vectors(video_id)} | times)

    per_video.export(selection, target, SUFFIX, write)


@contextmanager
def open_features(source: Path, options: ImportOptions) -> Iterator[Features]:
    """Find all .npz files below a folder; a video's id is its path without the suffix."""
    yield per_video.features(source, options, SUFFIX, _Source)


class _Source:
    """One .npz file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with NpzFile(path) as file:
            self._name = _choose(file)
            self.header: ArrayHeader = file.array(self._name).header
            has_times = set(TIMES) <= set(file.names)
        self.read_times = self._read_times if has_times else None
        if has_times:
            self._read_times()

    def _read_times(self) -> tuple[np.ndarray, np.ndarray]:
        with NpzFile(self._path) as file:
            pts_seconds, frame_index = (file.array(name).table() for name in TIMES)
        if (
            pts_seconds.dtype != np.float64
            or frame_index.dtype != np.int64
            or not pts_seconds.shape == frame_index.shape == self.header.shape[:1]
            or not np.isfinite(pts_seconds).all()
        ):
            raise StoreError(
                f"{self._path}: {TIMES[0]} must be one finite float64 a row, {TIMES[1]} one int64"
            )
        return pts_seconds, frame_index

    @contextmanager
    def open(self) -> Iterator[per_video.AsCubes]:
        with NpzFile(self._path) as file:
            yield per_video.AsCubes(file.array(self._name))


def _choose(file: NpzFile) -> str:
    if ARRAY in file.names:
        return ARRAY
    if len(file.names) != 1:
        raise StoreError(
            f"{file.path} holds the arrays {file.names}; name the features {ARRAY!r}, or keep one"
        )
    return file.names[0]
