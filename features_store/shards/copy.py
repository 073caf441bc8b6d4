"""A sealed shard from videos that other shards hold: trimmed, converted, checked on the way.

Every row is compared with its checksum while it is copied, so that no damage travels on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import xxhash

from features_store.errors import DamageError
from features_store.format.disk import Reservation
from features_store.format.encodings import StoredAs
from features_store.format.layout import ArraySpec, row_blocks
from features_store.format.records import (
    VideoRecord,
    pack_record,
    update_checksum,
    wrong_times,
)
from features_store.shards.reader import ShardReader
from features_store.shards.writer import (
    MARGIN_BYTES,
    create_dataset,
    create_shard_file,
    encode_rows,
)
from features_store.spec import Spec


@dataclass(frozen=True)
class StoredVideo:
    """A video in a shard, which is opened when it is asked for: a unit may come from thousands."""

    record: VideoRecord
    open_shard: Callable[[], ShardReader]

    @property
    def shard(self) -> ShardReader:
        """The shard that the video is in."""
        return self.open_shard()


def write_shard(
    path: Path, videos: Sequence[StoredVideo], arrays: Sequence[ArraySpec], *, spec: Spec
) -> None:
    """Write the videos to a new shard file, in their order.

    Cubes with scales are copied as they are when all videos come from one shard of that dtype; else
    their scales are found in a first pass over the rows.

    Raises:
        DamageError: rows are not those that were written.
    """
    chosen = {array.path: _choose(array, videos) for array in arrays}
    file = create_shard_file(
        path,
        arrays,
        rows=sum(video.record.length for video in videos),
        videos=len(videos),
        id_bytes=max(len(video.record.id.encode()) for video in videos),
        spec=spec,
        dtypes={name: stored_as.dtype for name, stored_as in chosen.items()},
    )
    with file:
        for array in arrays:
            if (scales := chosen[array.path].scales) is not None:
                create_dataset(file, array.scales_path, scales.shape, scales.dtype)[:] = scales
        space = Reservation(path)
        checksums = [
            _copy_array(file, array, videos, chosen[array.path], space) for array in arrays
        ]
        table, offset, rows = file["videos"], 0, []
        for video, *sums in zip(videos, *checksums, strict=True):
            record = replace(video.record, offset=offset, checksums=tuple(sums))
            rows.append(pack_record(record, table.dtype))
            offset += video.record.length
        table[:] = np.concatenate(rows)  # at once: HDF5 takes milliseconds for each one
        file.flush()
        num_bytes = file.id.get_filesize()
    os.truncate(path, num_bytes)


def _choose(array: ArraySpec, videos: Sequence[StoredVideo]) -> StoredAs:
    first = videos[0].shard
    if not _is_kept(first, array):
        return array.encoding.choose(_rows(array.path, videos), array.row_shape)
    paths = {video.shard.path for video in videos}
    assert len(paths) == 1, "shards are not joined where each has scales of its own"
    return StoredAs(first.stored_rows(array.path, 0, 0).dtype, first.scales[array.path])


def _is_kept(shard: ShardReader, array: ArraySpec) -> bool:
    """Whether rows are copied as they are stored, not decoded and encoded again."""
    return array.path in shard.scales and shard.arrays[array.path].encoding == array.encoding


def _rows(array: str, videos: Sequence[StoredVideo]) -> Iterator[np.ndarray]:
    for video in videos:
        for start, stop in _blocks(video):
            yield video.shard.rows(array, start, stop)


def _copy_array(
    file: h5py.File,
    array: ArraySpec,
    videos: Sequence[StoredVideo],
    stored_as: StoredAs,
    space: Reservation,
) -> list[int]:
    """Copy one array of all videos; return its checksum for each."""
    target = _Appender(file[array.path], space if array.is_compressed else None)
    checksums = []
    for video in videos:
        shard = video.shard
        is_kept = _is_kept(shard, array)
        stored, copied = xxhash.xxh3_64(), xxhash.xxh3_64()
        for start, stop in _blocks(video):
            block = shard.stored_rows(array.path, start, stop)
            update_checksum(stored, block)
            if array.path == "pts_seconds" and (wrong := wrong_times(block)):
                raise DamageError(f"video {video.record.id!r} in {shard.path}: {wrong}")
            if not is_kept:
                block = encode_rows(shard.decode(array.path, block), array, stored_as)
            update_checksum(copied, block)
            target.append(block)
        if array.path in shard.scales:
            update_checksum(stored, shard.scales[array.path])
        _require(video, array.path, stored.intdigest())
        if stored_as.scales is not None:
            update_checksum(copied, stored_as.scales)
        checksums.append(copied.intdigest())
    target.finish()
    return checksums


def _require(video: StoredVideo, array: str, checksum: int) -> None:
    position = list(video.shard.arrays).index(array)
    if checksum != video.record.checksums[position]:
        raise DamageError(
            f"video {video.record.id!r}: {array} in {video.shard.path} is not what was written; "
            "run 'cubereel store repair' on its store first"
        )


def _blocks(video: StoredVideo) -> list[tuple[int, int]]:
    row_bytes = max(array.row_bytes for array in video.shard.arrays.values())
    return row_blocks(video.record.offset, video.record.length, row_bytes)


class _Appender:
    """Writes rows one behind the other, compressed datasets a whole chunk at a time.

    Args:
        space: of the file, for a dataset that grows with what is written.
    """

    def __init__(self, dataset: h5py.Dataset, space: Reservation | None) -> None:
        self._dataset, self._space = dataset, space
        self._unit = 1 if space is None else dataset.chunks[0]
        self._next = 0
        self._waiting: list[np.ndarray] = []

    def append(self, rows: np.ndarray) -> None:
        """Take rows (n, …)."""
        self._waiting.append(rows)
        num_rows = sum(map(len, self._waiting))
        if num_rows >= self._unit:
            self._write(num_rows // self._unit * self._unit)

    def finish(self) -> None:
        """Write what is left."""
        self._write(sum(map(len, self._waiting)))

    def _write(self, num_rows: int) -> None:
        if num_rows:
            rows = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
            if self._space is not None:
                # As if nothing were saved, and what HDF5 has not written yet.
                end = self._dataset.file.id.get_filesize() + rows.nbytes + MARGIN_BYTES
                self._space.reach(end, ahead=Reservation.STEP_BYTES)
            self._dataset[self._next : self._next + num_rows] = rows[:num_rows]
            self._next += num_rows
            self._waiting = [rows[num_rows:].copy()] if num_rows < len(rows) else []
