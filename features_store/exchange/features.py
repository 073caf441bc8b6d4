"""What an import reads, whatever the format: videos, their records, their rows in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from features_store.errors import ContractError, StoreError, UsageError
from features_store.exchange.labels import unknown_splits
from features_store.exchange.timing import UNKNOWN, Timing, row_times
from features_store.format.layout import LayerShape, cube_path, row_blocks
from features_store.format.records import check_id
from features_store.format.safety import MAX_CHUNK_BYTES
from features_store.manifest import ManifestRow
from features_store.metadata import StoreHeader

LAYER = "features"  # the layer's name where a format has none
ARRAY = cube_path("center", LAYER)
_TIMES_BYTES = 16  # of a row, beside its cube
# Start and stop to those rows of a video: cubes (n, K, K, D), or vectors (n, D) for one cell.
ReadRows = Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class ImportedVideo:
    """One video to be imported.

    Attributes:
        record: fields of `VideoRecord`, without those that the shard gives.
        blocks: yields its rows from the first to the last: array path -> (n, …).
    """

    row: ManifestRow
    num_rows: int
    record: Mapping[str, Any]
    blocks: Callable[[], Iterator[dict[str, np.ndarray]]]


@dataclass(frozen=True)
class Features:
    """Videos to be imported.

    Attributes:
        dtype: of the cubes, in the source.
        header: of the store that they are from; None for features of others.
        manifest: what is said of these videos, and of others.
        warnings: what the format could not keep.
    """

    videos: Sequence[ImportedVideo]
    layers: tuple[LayerShape, ...]
    dtype: np.dtype
    manifest: Sequence[ManifestRow]
    header: StoreHeader | None = None
    timings: frozenset[Timing | None] = frozenset()
    warnings: list[str] = field(default_factory=list)


def opened(read_rows: ReadRows) -> Callable[[], AbstractContextManager[ReadRows]]:
    """Return what opens rows that are open already."""
    return lambda: nullcontext(read_rows)


@dataclass(frozen=True)
class ForeignVideo:
    """A video of features that somebody else computed.

    Attributes:
        shape: T, K, K, D.
        open_rows: opens what reads its rows.
        read_times: returns pts_seconds (T,) and frame_index (T,), where the source has them; else
            they are those of `timing`.
        num_frames, duration_seconds: of the source video; 0 and nan are unknown.
    """

    row: ManifestRow
    shape: tuple[int, int, int, int]
    dtype: np.dtype
    where: str
    open_rows: Callable[[], AbstractContextManager[ReadRows]]
    timing: Timing | None = None
    read_times: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None
    num_frames: int = 0
    duration_seconds: float = nan

    def blocks(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the rows that a store keeps."""
        read = None if self.read_times is None else self.read_times()
        with self.open_rows() as read_rows:
            for start, stop in row_blocks(0, self.shape[0], self.row_bytes + _TIMES_BYTES):
                pts_seconds, frame_index = (
                    row_times(self.timing, start, stop)
                    if read is None
                    else (times[start:stop] for times in read)
                )
                yield {
                    ARRAY: read_rows(start, stop).reshape(-1, *self.shape[1:]),
                    "pts_seconds": pts_seconds,
                    "frame_index": frame_index,
                }

    @property
    def row_bytes(self) -> int:
        """Bytes of a row's cube."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def imported(self) -> ImportedVideo:
        """Return the video with a record in which what nobody knows is 0, nan or `UNKNOWN`."""
        record = {
            "id": self.row.video_id,
            "media_sha256": "0" * 64,  # until `imported_spec.identify` has read the features
            "media_bytes": 0,
            "media_mtime_ns": 0,
            "source_fps": nan if self.timing is None else self.timing.fps,
            "duration_seconds": self.duration_seconds,
            "num_frames": self.num_frames,
            "width": 0,
            "height": 0,
            "rotation": 0,
            "crop": (0.0, 0.0, 0.0, 0.0),
            "colour_matrix": UNKNOWN,
            "colour_range": UNKNOWN,
            "status": "ok",
        }
        return ImportedVideo(self.row, self.shape[0], record, self.blocks)


def foreign_features(
    videos: Sequence[ForeignVideo], *, source: Path, warnings: list[str] | None = None
) -> Features:
    """Return features of others; all videos must have cubes of one shape and dtype.

    Raises:
        StoreError: there is no video, or one differs from the first.
    """
    if not videos:
        raise StoreError(f"{source} holds no video to import")
    first = videos[0]
    for video in videos:
        if video.dtype.kind != "f" or min(video.shape) < 1:
            raise StoreError(
                f"{video.where} has shape {video.shape} of {video.dtype}; "
                "expected at least one row of float16 or float32"
            )
        if video.shape[1:] != first.shape[1:] or video.dtype != first.dtype:
            raise StoreError(
                f"{video.where} has rows {video.shape[1:]} of {video.dtype}, {first.where} has "
                f"{first.shape[1:]} of {first.dtype}; one store holds one kind of features, "
                "import the others into another"
            )
    check_row_bytes(first.row_bytes, first.where)
    _check_ids(videos)
    return Features(
        videos=[video.imported() for video in videos],
        layers=(LayerShape(LAYER, first.shape[1], first.shape[3]),),
        dtype=first.dtype,
        manifest=[video.row for video in videos],
        timings=frozenset(video.timing for video in videos),
        warnings=[*(warnings or []), *unknown_splits(video.row.split for video in videos)],
    )


def check_row_bytes(num_bytes: int, where: str) -> None:
    """Raise `StoreError` for rows that are too large for a store to be read again."""
    if num_bytes > MAX_CHUNK_BYTES:
        raise StoreError(
            f"{where} has rows of {num_bytes} bytes; a store's may have {MAX_CHUNK_BYTES}, "
            "pool or cut them first"
        )


def _check_ids(videos: Sequence[ForeignVideo]) -> None:
    where: dict[str, str] = {}
    for video in videos:
        video_id = video.row.video_id
        try:
            check_id(video_id)
        except (UsageError, UnicodeEncodeError) as err:
            raise ContractError(f"{video.where}: {err}") from None
        if video_id in where:
            raise ContractError(
                f"{where[video_id]} and {video.where} are both video {video_id!r}; "
                "rename one, ids must be unique"
            )
        where[video_id] = video.where
