"""An open shard: a pre-sized ``*.partial`` file that survives a kill at any write.

HDF5 does not survive a kill while a file grows. So the file has its final size before the first
row: every chunk is allocated early, fsynced and given its space on the disk, and only then come,
per video, the rows, then the commit record with its checksums, each written to its place past HDF5.
`sealing` makes a shard of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
import xxhash

from features_store.catalogue import PARTIAL, SEALING
from features_store.errors import StoreError
from features_store.format.chunks import chunk_runs
from features_store.format.disk import EarlySync, Reservation, fsync_path, require_space
from features_store.format.encodings import StoredAs
from features_store.format.hdf5.file import Hdf5File
from features_store.format.layout import (
    BLOCK_BYTES,
    FORMAT_VERSION,
    LIBVER,
    ArraySpec,
    chunk_rows,
)
from features_store.format.placed import PlacedRows, write_at
from features_store.format.records import VideoRecord, pack_record, record_dtype, update_checksum
from features_store.format.regular_file import RegularFile
from features_store.format.shard_size import chunk_bytes_of
from features_store.spec import Spec

MARGIN_BYTES = 2**20  # of a shard's structure beside its rows and records
ZSTD_LEVEL = 1  # higher ones take longer and save nothing on cubes


def create_shard_file(
    path: Path,
    arrays: Sequence[ArraySpec],
    *,
    rows: int,
    videos: int,
    id_bytes: int,
    spec: Spec,
    dtypes: Mapping[str, np.dtype] = MappingProxyType({}),
) -> h5py.File:
    """Create a shard's file with every uncompressed dataset at its full size, its space taken.

    Args:
        dtypes: path -> which of the dtypes that the array may be stored in; the first by default.

    Raises:
        MachineError: there is no space for it.
    """
    table = record_dtype(
        id_bytes=id_bytes, num_arrays=len(arrays), draws_shape=spec.sampling.draws_shape
    )
    raw_bytes = sum(rows * array.stored_row_bytes for array in arrays if not array.is_compressed)
    require_space(path.parent, raw_bytes + videos * table.itemsize + MARGIN_BYTES)
    # No chunk cache: whole chunks pass through, and what is written is in the file at once.
    file = h5py.File(path, "x", libver=LIBVER, rdcc_nbytes=0)
    file.attrs["format_version"] = FORMAT_VERSION
    # Of fixed length: see `safety.text_attribute`.
    file.attrs["spec_digest"] = np.bytes_(spec.digest)
    file.attrs["arrays"] = np.bytes_(json.dumps([array.path for array in arrays]))
    create_dataset(file, "videos", (videos,), table)
    for array in arrays:
        chunk = chunk_rows(array.stored_row_bytes, rows, chunk_bytes=chunk_bytes_of(array))
        dataset = create_dataset(
            file,
            array.path,
            (rows, *array.stored_row_shape),
            dtypes.get(array.path, array.encoding.stored[0]),
            chunk=(chunk, *array.stored_row_shape),
            is_compressed=array.is_compressed,
        )
        if array.axes:
            dataset.attrs["axes"] = np.bytes_(array.axes)
    file.flush()
    Reservation(path).reach(path.stat().st_size)
    return file


def create_dataset(
    file: h5py.File,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    *,
    chunk: tuple[int, ...] | None = None,
    is_compressed: bool = False,
) -> h5py.Dataset:
    """Create a dataset: in chunks or contiguous, its place in the file taken at once."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunk is not None:
        properties.set_chunk(chunk)
        # Rows are only read behind a commit record, so filling them would be written for nothing.
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    if is_compressed:
        import hdf5plugin

        properties.set_filter(hdf5plugin.Zstd.filter_id, h5py.h5z.FLAG_MANDATORY, (ZSTD_LEVEL,))
    else:
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_obj_track_times(False)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(
        file.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, properties, links
    )
    return file[name]


def check_shape(rows: np.ndarray, array: ArraySpec, *, num_rows: int) -> None:
    """Raise `StoreError` for rows of another shape: they are written as bytes, which fit anyhow."""
    wanted = (num_rows, *array.row_shape)
    if rows.shape != wanted:
        raise StoreError(f"{array.path} wants rows {wanted}, got {rows.shape}")


def encode_rows(rows: np.ndarray, array: ArraySpec, stored_as: StoredAs) -> np.ndarray:
    """Return rows as they are stored; raise `StoreError` for values that the dtype cannot hold."""
    encoding = array.encoding
    block = encoding.encode(rows, stored_as)
    if not encoding.holds(rows, block):
        largest = np.abs(rows).max()
        said = f"a value of {largest:g}"
        if np.isinf(largest) and rows.dtype == block.dtype:  # rounded before it came here
            said = f"a value above {encoding.largest:g}"
        raise StoreError(
            f"{array.path} has {said}, which {encoding.name} cannot hold; "
            f"take `dtype` {encoding.advised}"
        )
    return block


class ShardWriter:
    """Writes videos one after the other into a pre-sized partial shard.

    Args:
        rows: frames that fit; `write_rows` must not be given more than `free_rows`.
        videos: videos that fit.

    Attributes:
        video_ids: of the committed videos, in their order.
    """

    def __init__(
        self,
        path: Path,
        arrays: Sequence[ArraySpec],
        *,
        rows: int,
        videos: int,
        id_bytes: int,
        spec: Spec,
    ) -> None:
        self.path = path
        self.arrays = list(arrays)
        # Laid out under another name, so that a partial is whole from its first instant.
        layout = path.with_name(path.name.removesuffix(PARTIAL) + SEALING)
        self._file = create_shard_file(
            layout, arrays, rows=rows, videos=videos, id_bytes=id_bytes, spec=spec
        )
        fsync_path(layout)
        layout.rename(path)
        fsync_path(path.parent)
        # Looking a dataset up takes as long as writing a hundred small rows.
        self._datasets = [self._file[array.path] for array in arrays]
        self._record_dtype = self._file["videos"].dtype
        self._first_record = self._file["videos"].id.get_offset()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._places = list(self._find_places())
        self._sync = EarlySync(self._descriptor)
        self._rows, self._id_bytes = rows, id_bytes
        self._committed_rows = self._next_row = 0
        self.video_ids: list[str] = []
        self._hashers = [xxhash.xxh3_64() for _ in self.arrays]

    def _find_places(self) -> Iterator[PlacedRows]:
        with RegularFile(self.path) as file:
            hdf5 = Hdf5File(file, str(self.path))
            for array in self.arrays:
                yield PlacedRows(self._descriptor, chunk_runs(file, hdf5, hdf5.dataset(array.path)))

    @property
    def free_rows(self) -> int:
        """Frames that still fit."""
        return self._rows - self._next_row

    @property
    def unused_share(self) -> float:
        """Share of the rows that no committed video has."""
        return 1 - self._committed_rows / self._rows

    @property
    def num_rows_in_work(self) -> int:
        """Rows written since the last commit."""
        return self._next_row - self._committed_rows

    def write_rows(self, rows: Mapping[str, np.ndarray]) -> None:
        """Append frames of the video in work: array path -> (n, …).

        Raises:
            StoreError: rows have another shape, or values that their dtype cannot hold.
        """
        start = self._next_row
        stop = start + len(rows["pts_seconds"])
        for array in self.arrays:
            check_shape(rows[array.path], array, num_rows=stop - start)
        for array, places, hasher in zip(self.arrays, self._places, self._hashers, strict=True):
            block = encode_rows(rows[array.path], array, StoredAs(array.encoding.stored[0]))
            places.write(start, block)
            self._sync.wrote(block.nbytes)
            update_checksum(hasher, block)
        self._next_row = stop

    def commit(self, **record: Any) -> VideoRecord:
        """Make the rows since the last commit a video that a kill cannot undo.

        Raises:
            StoreError: there are none, or the id is longer than any that was announced.
        """
        if not self.num_rows_in_work:
            raise StoreError(f"video {record['id']!r} has no frame; abandon it instead")
        if len(record["id"].encode()) > self._id_bytes:
            raise StoreError(f"video id {record['id']!r} was not announced to its unit")
        committed = VideoRecord(
            offset=self._committed_rows,
            length=self.num_rows_in_work,
            checksums=tuple(hasher.intdigest() for hasher in self._hashers),
            **record,
        )
        self._write_record(len(self.video_ids), committed)
        self.video_ids.append(committed.id)
        self._committed_rows = self._next_row
        self._hashers = [xxhash.xxh3_64() for _ in self.arrays]
        return committed

    def _write_record(self, position: int, record: VideoRecord) -> None:
        # HDF5 takes milliseconds for a row of a table.
        row = pack_record(record, self._record_dtype).tobytes()
        write_at(self._descriptor, memoryview(row), self._first_record + position * len(row))

    def abandon(self) -> None:
        """Forget the rows since the last commit."""
        self._next_row = self._committed_rows
        self._hashers = [xxhash.xxh3_64() for _ in self.arrays]

    def rows_in_work(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the rows since the last commit again, in blocks of bounded size."""
        step = max(1, BLOCK_BYTES // sum(array.row_bytes for array in self.arrays))
        for start in range(self._committed_rows, self._next_row, step):
            rows = slice(start, min(start + step, self._next_row))
            yield {
                array.path: dataset[rows]
                for array, dataset in zip(self.arrays, self._datasets, strict=True)
            }

    def close(self) -> None:
        """Close the file; what is committed stays."""
        try:
            self._sync.close()
        finally:
            self._file.close()
            os.close(self._descriptor)
