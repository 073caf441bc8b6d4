"""What `npy` and `npz` share: a folder with a file of T×D features for every video."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from features_store.errors import ContractError, StoreError, UsageError
from features_store.exchange import annotation_file
from features_store.exchange.annotation_file import Annotation
from features_store.exchange.array_files import ArrayHeader
from features_store.exchange.export_folder import ExportFolder, check_names
from features_store.exchange.features import (
    Features,
    ForeignVideo,
    Rows,
    foreign_features,
)
from features_store.exchange.options import ImportOptions
from features_store.exchange.selection import Selection
from features_store.labels import classes_of

OPTIONS = ("fps", "feat_stride", "feat_num_frames", "annotations")


@dataclass(frozen=True)
class AsCubes:
    """Vectors (T, D) as cubes (T, 1, 1, D)."""

    vectors: Rows

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return cubes (n, 1, 1, D)."""
        return self.vectors.rows(start, stop)[:, None, None, :]


class Source(Protocol):
    """The file of one video, its header read and checked."""

    @property
    def header(self) -> ArrayHeader: ...  # noqa: D102

    @property
    def read_times(self) -> Callable[[], tuple[np.ndarray, np.ndarray]] | None:
        """Reads pts_seconds and frame_index, where the file has them."""
        ...

    def open(self) -> AbstractContextManager[AsCubes]:
        """Open its features."""
        ...


def check_export(selection: Selection, suffix: str) -> None:
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
    check_names([annotation_file.FILE_NAME, *(i + suffix for i in selection.ids)])


def export(
    selection: Selection,
    target: ExportFolder,
    suffix: str,
    write: Callable[[str, Path], None],
) -> None:
    """Write a file a video with `write`, then the annotations."""
    for video_id in selection.ids:
        target.write(video_id + suffix, partial(write, video_id))
    target.write_text(annotation_file.FILE_NAME, annotation_file.to_json(selection))


def features(
    source: Path, options: ImportOptions, suffix: str, open_source: Callable[[Path], Source]
) -> Features:
    """Return the features of all files below a folder: as the annotations list them, then by id.

    Every header is read and checked here; the rows are not.
    """
    if not source.is_dir():
        raise UsageError(f"{source} is no folder; give the folder that holds the {suffix} files")
    paths = {
        path.relative_to(source).as_posix().removesuffix(suffix): path
        for path in sorted(source.rglob(f"[!.]*{suffix}"))
        if path.is_file()
    }
    said, warnings = annotation_file.read_annotations(source, options)
    warnings += _unmatched(said, paths, suffix)
    unknown = Annotation(options.fps, options.feat_stride, options.feat_num_frames)
    videos = [
        _video(paths[i], open_source(paths[i]), said.get(i, unknown), i)
        for i in [*(i for i in said if i in paths), *(i for i in paths if i not in said)]
    ]
    return foreign_features(videos, source=source, warnings=warnings)


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


def _video(path: Path, source: Source, said: Annotation, video_id: str) -> ForeignVideo:
    shape = source.header.shape
    if len(shape) != 2:
        raise StoreError(f"{path} has shape {shape}; expected T×D, one row a time step")
    return ForeignVideo(
        said.row(video_id),
        (shape[0], 1, 1, shape[1]),
        source.header.dtype,
        str(path),
        source.open,
        said.timing,
        source.read_times,
        said.num_frames,
        said.duration_seconds,
    )
