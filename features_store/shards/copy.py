"""A sealed shard from videos that other shards hold: trimmed, converted, checked on the way.

Every row is compared with its checksum while it is copied, so that no damage travels on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import xxhash

from features_store.errors import DamageError
from features_store.format.disk import Reservation
from features_store.format.eight_bit import channel_scales, quantise
from features_store.format.layout import ArraySpec, row_blocks
from features_store.format.records import VideoRecord, pack_record, update_checksum
from features_store.shards.reader import ShardReader
from features_store.shards.writer import (
    MARGIN_BYTES,
    cast_rows,
    create_dataset,
    create_shard_file,
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


@dataclass(frozen=True)
class _Encoding:
    """How one 8-bit array of the new shard is stored."""

    scales: np.ndarray
    dtype: np.dtype


def write_shard(
    path: Path, videos: Sequence[StoredVideo], arrays: Sequence[ArraySpec], *, spec: Spec
) -> None:
    """Write the videos to a new shard file, in their order.

    8-bit cubes are copied as they are when all videos come from one 8-bit shard; else their scales
    are found in a first pass over the rows.

    Raises:
        DamageError: rows are not those that were written.
    """
    encodings = {array.path: _encoding(array, videos) for array in arrays if array.is_8bit}
    file = create_shard_file(
        path,
        arrays,
        rows=sum(video.record.length for video in videos),
        videos=len(videos),
        id_bytes=max(len(video.record.id.encode()) for video in videos),
        spec=spec,
        signed=[name for name, encoding in encodings.items() if encoding.dtype.kind == "i"],
    )
    with file:
        for array in arrays:
            if array.is_8bit:
                scales = encodings[array.path].scales
                create_dataset(file, array.scales_path, scales.shape, scales.dtype)[:] = scales
        space = Reservation(path)
        checksums = [
            _copy_array(file, array, videos, encodings.get(array.path), space) for array in arrays
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


def _encoding(array: ArraySpec, videos: Sequence[StoredVideo]) -> _Encoding:
    first = videos[0].shard
    if array.path in first.scales:
        paths = {video.shard.path for video in videos}
        assert len(paths) == 1, "8-bit shards are not joined: each has scales of its own"
        stored_dtype = first.stored_rows(array.path, 0, 0).dtype
        return _Encoding(first.scales[array.path], stored_dtype)
    largest = np.zeros(array.row_shape[-1], np.float32)
    has_negative = False
    for video in videos:
        for start, stop in _blocks(video):
            rows = video.shard.rows(array.path, start, stop).astype(np.float32)
            cells = rows.reshape(-1, rows.shape[-1])
            has_negative = has_negative or bool(cells.min() < 0)
            np.maximum(largest, np.abs(cells, out=cells).max(0), out=largest)
        video.shard.release()
    dtype = array.stored_dtypes[has_negative]
    return _Encoding(channel_scales(largest, dtype), dtype)


def _copy_array(
    file: h5py.File,
    array: ArraySpec,
    videos: Sequence[StoredVideo],
    encoding: _Encoding | None,
    space: Reservation,
) -> list[int]:
    """Copy one array of all videos; return its checksum for each."""
    target = _Appender(file[array.path], space if array.is_compressed else None)
    checksums = []
    for video in videos:
        shard = video.shard
        is_8bit_before = shard.arrays[array.path].is_8bit
        stored, copied = xxhash.xxh3_64(), xxhash.xxh3_64()
        for start, stop in _blocks(video):
            block = shard.stored_rows(array.path, start, stop)
            update_checksum(stored, block)
            if encoding is not None and not is_8bit_before:
                block = quantise(block.astype(np.float32), encoding.scales, encoding.dtype)
            elif encoding is None:
                block = shard.rows(array.path, start, stop) if is_8bit_before else block
                block = cast_rows(block, array)
            update_checksum(copied, block)
            target.append(block)
        shard.release()
        if is_8bit_before:
            update_checksum(stored, shard.scales[array.path])
        _require(video, array.path, stored.intdigest())
        if encoding is not None:
            update_checksum(copied, encoding.scales)
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
