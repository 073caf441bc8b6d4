"""`npy` and `npz`: a file of T×D features for every video, as ActionFormer and OpenTAD read them.

`npy` is `<id>.npy`, for both. `npz` is `<id>.npz` with an array `feats`, as OpenTAD reads it,
and two further arrays, `pts_seconds` and `frame_index`, that keep the times of frames. An import
takes `feats`, or the only array there is.

Beside the files stands `annotations.json` (see `annotation_file`). Not kept: the cells of K×K
cubes, frame differences, other layers, and by `npy` the times of frames that are not regular.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, ClassVar

import numpy as np

from features_store.errors import ContractError, StoreError, UsageError
from features_store.exchange import annotation_file
from features_store.exchange.annotation_file import Annotation
from features_store.exchange.array_files import ArrayHeader, NpyArray, NpzFile, write_npy, write_npz
from features_store.exchange.export_folder import ExportFolder, check_names
from features_store.exchange.features import (
    Features,
    ForeignVideo,
    ReadRows,
    foreign_features,
    opened,
)
from features_store.exchange.formats.registry import Format
from features_store.exchange.options import ImportOptions
from features_store.exchange.selection import Selection
from features_store.format.safety import check_own
from features_store.labels import classes_of

ARRAY = "feats"
TIMES = ("pts_seconds", "frame_index")


@dataclass(frozen=True)
class _VideoFile:
    """The file of one video, its header read and checked; see `ForeignVideo` for the others."""

    header: ArrayHeader
    open_rows: Callable[[], AbstractContextManager[ReadRows]]
    read_times: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None


class _PerVideo(Format):
    """A folder with a file for every video; a video's id is its path without the suffix."""

    options = (*Format.options, "annotations")
    suffix: ClassVar[str]

    @abstractmethod
    def write_file(self, selection: Selection, video_id: str, file: IO[bytes]) -> None:
        """Write the file of one video."""

    @abstractmethod
    def open_file(self, path: Path) -> _VideoFile:
        """Read and check the header of one file, not its rows."""

    def check_export(self, selection: Selection) -> None:
        """Raise `UsageError` for ids that cannot all be files, or that an import would not see.

        And `ContractError` for a label that is not rightly written.
        """
        for video_id in selection.ids:
            classes_of(selection.rows[video_id])
            if video_id.split("/")[-1].startswith("."):
                raise UsageError(
                    f"video {video_id!r} would be a hidden file, which nobody reads; take `kind` "
                    "folder, or give the others with `video`"
                )
        check_names([annotation_file.FILE_NAME, *(i + self.suffix for i in selection.ids)])

    def export(self, selection: Selection, target: ExportFolder) -> None:
        """Write a file a video, then the annotations."""
        for video_id in selection.ids:
            target.write(video_id + self.suffix, partial(self.write_file, selection, video_id))
        target.write_small(annotation_file.FILE_NAME, annotation_file.to_json(selection).encode())

    @contextmanager
    def open_features(self, source: Path, options: ImportOptions) -> Iterator[Features]:
        """Find all files below a folder: as the annotations list them, then by id."""
        if not source.is_dir():
            raise UsageError(
                f"{source} is no folder; give the folder that holds the {self.suffix} files"
            )
        paths = {
            path.relative_to(source).as_posix().removesuffix(self.suffix): path
            for path in sorted(source.rglob(f"[!.]*{self.suffix}"))
            if not path.is_dir()
        }
        for path in paths.values():
            check_own(path)
        said, warnings = annotation_file.read_annotations(source, options)
        warnings += _unmatched(said, paths, self.suffix)
        unknown = Annotation(options.fps, options.feat_stride, options.feat_num_frames)
        videos = [
            _video(paths[i], self.open_file(paths[i]), said.get(i, unknown), i)
            for i in [*(i for i in said if i in paths), *(i for i in paths if i not in said)]
        ]
        yield foreign_features(videos, source=source, warnings=warnings)


class Npy(_PerVideo):
    """Arrays without times, so videos whose times are not regular are not exported."""

    suffix = ".npy"

    def check_export(self, selection: Selection) -> None:
        """Raise `UsageError` also for times that are not regular."""
        if irregular := selection.irregular:
            raise UsageError(
                f"{len(irregular)} videos have frames at irregular times, which this format cannot "
                f"say; first: {irregular[0]!r}; take `kind` npz"
            )
        super().check_export(selection)

    def write_file(self, selection: Selection, video_id: str, file: IO[bytes]) -> None:
        """Write the vectors."""
        write_npy(file, selection.vectors(video_id))

    def open_file(self, path: Path) -> _VideoFile:
        """Read the header."""
        array = NpyArray(path)
        return _VideoFile(array.header, opened(array.rows))


class Npz(_PerVideo):
    """Archives of features and times."""

    keeps = ("exact times",)
    suffix = ".npz"

    def write_file(self, selection: Selection, video_id: str, file: IO[bytes]) -> None:
        """Write the vectors and their times."""
        times = {name: selection.array(video_id, name) for name in TIMES}
        write_npz(file, {ARRAY: selection.vectors(video_id)} | times)

    def open_file(self, path: Path) -> _VideoFile:
        """Read the header, and check the times where there are some."""
        with NpzFile(path) as file:
            name = _choose(file)
            header = file.array(name).header
            has_times = set(TIMES) <= set(file.names)
        open_rows = partial(_open_rows, path, name)
        if not has_times:
            return _VideoFile(header, open_rows)
        read_times = partial(_read_times, path, header.shape[:1])
        read_times()
        return _VideoFile(header, open_rows, read_times)


def _choose(file: NpzFile) -> str:
    if ARRAY in file.names:
        return ARRAY
    if len(file.names) != 1:
        raise StoreError(
            f"{file.path} holds the arrays {file.names}; name the features {ARRAY!r}, or keep one"
        )
    return file.names[0]


@contextmanager
def _open_rows(path: Path, name: str) -> Iterator[ReadRows]:
    with NpzFile(path) as file:
        yield file.array(name).rows


def _read_times(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    with NpzFile(path) as file:
        pts_seconds, frame_index = (file.array(name).table() for name in TIMES)
    if (
        pts_seconds.dtype != np.float64
        or frame_index.dtype != np.int64
        or not pts_seconds.shape == frame_index.shape == shape
        or not np.isfinite(pts_seconds).all()
    ):
        raise StoreError(
            f"{path}: {TIMES[0]} must be one finite float64 a row, {TIMES[1]} one int64"
        )
    return pts_seconds, frame_index


def _unmatched(said: Collection[str], paths: Collection[str], suffix: str) -> list[str]:
    """Return a warning of annotations without a file; raise `ContractError` if none has one."""
    unmatched = [video_id for video_id in said if video_id not in paths]
    if not unmatched:
        return []
    if paths and len(unmatched) == len(said):
        raise ContractError(
            f"none of the {len(said)} annotated videos has a file: the first is {unmatched[0]!r}, "
            f"the first file {min(paths) + suffix!r}; rename the files or the videos"
        )
    return [f"{len(unmatched)} annotated videos have no file; first: {unmatched[0]!r}"]


def _video(path: Path, file: _VideoFile, said: Annotation, video_id: str) -> ForeignVideo:
    shape = file.header.shape
    if len(shape) != 2:
        raise StoreError(f"{path} has shape {shape}; expected T×D, one row a time step")
    return ForeignVideo(
        said.row(video_id),
        (shape[0], 1, 1, shape[1]),
        file.header.dtype,
        str(path),
        file.open_rows,
        said.timing,
        file.read_times,
        said.num_frames,
        said.duration_seconds,
    )
