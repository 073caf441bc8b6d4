"""An open shard: a pre-sized ``*.partial`` file that survives a kill at any write.

HDF5 does not survive a kill while a file grows. So the file has its final size before the first
row: every chunk is allocated early and fsynced, and only then come, per video, the rows, a flush,
the commit record with its checksums, a flush. `sealing` makes a shard of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash

from features_store.errors import StoreError
from features_store.layout import FORMAT_VERSION, ArraySpec, chunk_rows
from features_store.records import VideoRecord, pack_record, record_dtype, update_checksum


def create_shard_file(
    path: Path, arrays: Sequence[ArraySpec], *, rows: int, videos: int, id_bytes: int, digest: str
) -> h5py.File:
    """Create a shard's file with every dataset at its full size, on disk."""
    file = h5py.File(path, "x", libver=("earliest", "v110"))
    file.attrs["format_version"] = FORMAT_VERSION
    file.attrs["spec_digest"] = digest
    file.attrs["arrays"] = json.dumps([array.path for array in arrays])
    table = record_dtype(id_bytes=id_bytes, num_arrays=len(arrays))
    _create_dataset(file, "videos", (videos,), table, chunk=None)
    for array in arrays:
        chunk = (chunk_rows(array.row_bytes, max(rows, 1)), *array.row_shape)
        shape = (rows, *array.row_shape)
        dataset = _create_dataset(file, array.path, shape, array.dtype, chunk=chunk)
        if array.path.startswith("cubes/"):
            dataset.attrs["axes"] = "nkkd"
    file.flush()
    fsync_path(path)
    return file


def _create_dataset(
    file: h5py.File,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    *,
    chunk: tuple[int, ...] | None,
) -> h5py.Dataset:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunk is not None and shape[0] > 0:
        properties.set_chunk(chunk)
        # Rows are only read behind a commit record, so filling them would be written for nothing.
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_obj_track_times(False)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(
        file.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, properties, links
    )
    return file[name]


def _cast(rows: np.ndarray, array: ArraySpec) -> np.ndarray:
    """Return rows as they are stored; raise `StoreError` for values that the dtype cannot hold."""
    with np.errstate(over="ignore"):
        block = np.ascontiguousarray(rows, dtype=array.dtype)
    if block.dtype.kind == "f" and not np.isfinite(block).all():
        largest = np.abs(rows).max()
        raise StoreError(
            f"{array.path} has a value of {largest:g}, which {array.dtype} cannot hold; "
            "extract with --dtype float32"
        )
    return block


def fsync_path(path: Path) -> None:
    """Bring a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ShardWriter:
    """Writes videos one after the other into a pre-sized partial shard.

    Args:
        rows: frames that fit; `write_rows` must not be given more than `free_rows`.
        videos: videos that fit.
    """

    def __init__(
        self,
        path: Path,
        arrays: Sequence[ArraySpec],
        *,
        rows: int,
        videos: int,
        id_bytes: int,
        digest: str,
    ) -> None:
        self.path = path
        self.arrays = list(arrays)
        self._file = create_shard_file(
            path, arrays, rows=rows, videos=videos, id_bytes=id_bytes, digest=digest
        )
        self._rows = rows
        self._committed_rows = self._next_row = self._num_committed = 0
        self._hashers = [xxhash.xxh3_64() for _ in self.arrays]

    @property
    def free_rows(self) -> int:
        """Frames that still fit."""
        return self._rows - self._next_row

    @property
    def num_rows_in_work(self) -> int:
        """Rows written since the last commit."""
        return self._next_row - self._committed_rows

    def write_rows(self, rows: Mapping[str, np.ndarray]) -> None:
        """Append frames of the video in work: array path -> (n, …)."""
        start = self._next_row
        stop = start + len(rows["pts_seconds"])
        for array, hasher in zip(self.arrays, self._hashers, strict=True):
            block = _cast(rows[array.path], array)
            self._file[array.path][start:stop] = block
            update_checksum(hasher, block)
        self._next_row = stop

    def commit(self, **record: Any) -> VideoRecord:
        """Make the rows since the last commit a video that a kill cannot undo."""
        self._file.flush()
        committed = VideoRecord(
            offset=self._committed_rows,
            length=self.num_rows_in_work,
            checksums=tuple(hasher.intdigest() for hasher in self._hashers),
            **record,
        )
        table = self._file["videos"]
        table[self._num_committed : self._num_committed + 1] = pack_record(committed, table.dtype)
        self._file.flush()
        self._num_committed += 1
        self._committed_rows = self._next_row
        self._hashers = [xxhash.xxh3_64() for _ in self.arrays]
        return committed

    def abandon(self) -> None:
        """Forget the rows since the last commit."""
        self._next_row = self._committed_rows
        self._hashers = [xxhash.xxh3_64() for _ in self.arrays]

    def rows_in_work(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the rows since the last commit again, in blocks of bounded size."""
        step = max(1, 2**26 // sum(array.row_bytes for array in self.arrays))
        for start in range(self._committed_rows, self._next_row, step):
            rows = slice(start, min(start + step, self._next_row))
            yield {array.path: self._file[array.path][rows] for array in self.arrays}

    def close(self) -> None:
        """Close the file; what is committed stays."""
        self._file.close()
