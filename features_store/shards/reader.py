"""Reading one shard: refuse what is unsafe, then hand out rows and records.

Uncompressed shards are read through a memory map, so any number of threads and forked processes
may share a reader; compressed ones go through HDF5 and belong to the process that opened them.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import xxhash

from features_store.errors import DamageError, StoreError, UnsafeStoreError
from features_store.format.chunks import CompressedRows, MappedRows
from features_store.format.layout import FORMAT_VERSION, ArraySpec, other_version, row_blocks
from features_store.format.records import (
    VideoRecord,
    is_committed,
    record_dtype,
    unpack_record,
    update_checksum,
)
from features_store.format.safety import (
    check_filters,
    check_links,
    check_own,
    check_rows,
    check_size,
    checked_dataset,
    text_attribute,
)
from features_store.spec import Spec

# What h5py raises when bytes of its structures are not what they were.
_NOT_HDF5 = (
    *(OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError),
    *(MemoryError, OverflowError),
)


class ShardReader:
    """The rows and records of one shard.

    Args:
        path: ``<store>/shards/<unit>.h5``, or a partial beside it.
        arrays: what store.json says that it holds.
        spec: as in store.json.

    Attributes:
        num_rows: of every array; rows that no record claims are unused.
        table: the records, mapped; the unused ones at the end have an empty id.
        table_place: where they lie in the file: offset and bytes.

    Raises:
        DamageError: it is not a readable HDF5 file, or an array is missing or of another shape.
        UnsafeStoreError: it reaches outside itself, or lies about a size.
        StoreError: another format version or another spec.
    """

    def __init__(self, path: Path, arrays: Sequence[ArraySpec], *, spec: Spec) -> None:
        self.path = path
        self.arrays = {array.path: array for array in arrays}
        check_own(path)
        self._map = _map(path)
        self._mapped = np.frombuffer(self._map, np.uint8)
        try:
            with _open(path) as file:
                _check_file(file, path, arrays, spec)
                self.table = self._map_table(file, spec)
                self.num_rows = len(file["pts_seconds"])
                self._rows = {array.path: self._open_rows(file, array) for array in arrays}
                with_scales = [array for array in arrays if array.scales_shape is not None]
                self.scales = {a.path: _read_scales(file, path, a) for a in with_scales}
        except _NOT_HDF5 as err:
            if isinstance(err, OSError) and err.errno is not None:
                raise  # the machine: no permission, no memory, a disk that fails
            raise DamageError(f"{path} cannot be read as a shard: {err}") from err

    def release(self) -> None:
        """Let go of the memory that reading has mapped; for those who read a shard once through."""
        self._map.madvise(mmap.MADV_DONTNEED)

    @property
    def num_videos(self) -> int:
        """Records in use."""
        return int(np.count_nonzero(self.table["id"]))

    def record(self, position: int) -> VideoRecord:
        """Return a record; raise `DamageError` when it is torn or its rows are not in the shard."""
        row = self.table[position : position + 1]
        if not is_committed(row):
            raise DamageError(f"{self.path.name}: the record of video number {position} is damaged")
        try:
            record = unpack_record(row)
        except UnicodeDecodeError as err:
            where = f"{self.path.name}: the record of video number {position}"
            raise DamageError(f"{where} holds text that is not UTF-8: {err}") from err
        if record.offset < 0 or record.length < 1 or record.offset > self.num_rows - record.length:
            raise DamageError(
                f"{self.path.name}: video {record.id!r} claims rows {record.offset} to "
                f"{record.offset + record.length} of {self.num_rows}"
            )
        if not all(0 <= row < record.length for draw in record.draws for row in draw):
            raise DamageError(
                f"{self.path.name}: draws of video {record.id!r} name rows that it does not have"
            )
        return record

    def records(self) -> Iterator[VideoRecord]:
        """Yield the records in use, in the order of rows."""
        return map(self.record, range(self.num_videos))

    def place(self, position: int, video_id: bytes) -> tuple[int, int]:
        """Return offset and length of a video whose record is expected at `position`."""
        if position < len(self.table) and self.table["id"][position] == video_id:
            offset, length = (int(self.table[name][position]) for name in ("offset", "length"))
            if 0 <= offset <= self.num_rows - length and length >= 1:
                return offset, length
        raise DamageError(
            f"{self.path.name} does not hold video {video_id.decode()!r} where index.h5 says; "
            "run 'cubereel store verify'"
        )

    def chunk_rows_of(self, array: str) -> int:
        """Return the rows of an HDF5 chunk of an array; whole chunks are read at once."""
        return self._rows[array].chunk_rows

    def stored_rows(self, array: str, start: int, stop: int) -> np.ndarray:
        """Return rows as they lie in the file; they may be a read-only view of it."""
        return self._rows[array][start:stop]

    def rows(self, array: str, start: int, stop: int) -> np.ndarray:
        """Return rows as they are read; they may be a read-only view of the file."""
        return self.decode(array, self.stored_rows(array, start, stop))

    def decode(self, array: str, stored: np.ndarray) -> np.ndarray:
        """Return rows as they are read, of rows as they lie in the file."""
        return self.arrays[array].encoding.decode(stored, self.scales.get(array))

    def checksum(self, array: str, record: VideoRecord) -> int:
        """Return the checksum of a video's rows as they are now."""
        hasher = xxhash.xxh3_64()
        row_bytes = self.arrays[array].stored_row_bytes
        for start, stop in row_blocks(record.offset, record.length, row_bytes):
            update_checksum(hasher, self.stored_rows(array, start, stop))
        if array in self.scales:
            update_checksum(hasher, self.scales[array])
        return int(hasher.intdigest())

    def damaged_arrays(self, record: VideoRecord) -> list[str]:
        """Return what is wrong with a video's rows, array by array; nothing for a sound one."""
        problems = []
        for array, expected in zip(self.arrays, record.checksums, strict=True):
            try:
                if self.checksum(array, record) != expected:
                    problems.append(f"{array} is not what was written")
            except StoreError as err:
                problems.append(str(err))
        self.release()
        return problems

    def _map_table(self, file: h5py.File, spec: Spec) -> np.ndarray:
        table = checked_dataset(file, self.path, "videos")
        check_size(table, self.path, len(self._mapped))
        expected = record_dtype(
            id_bytes=_id_bytes(table),
            num_arrays=len(self.arrays),
            draws_shape=spec.sampling.draws_shape,
        )
        if table.dtype != expected:
            raise DamageError(f"{self.path}: the table 'videos' has other columns than FORMAT.md")
        offset, num_bytes = table.id.get_offset(), table.size * table.dtype.itemsize
        if table.ndim != 1 or offset is None or offset > len(self._mapped) - num_bytes:
            raise DamageError(f"{self.path}: the table 'videos' is not a contiguous table")
        self.table_place = offset, num_bytes
        return self._mapped[offset : offset + num_bytes].view(table.dtype)

    def _open_rows(self, file: h5py.File, array: ArraySpec) -> MappedRows | CompressedRows:
        dataset = checked_dataset(file, self.path, array.path)
        check_filters(dataset, self.path, is_compressed=array.is_compressed)
        check_size(dataset, self.path, len(self._mapped), is_compressed=array.is_compressed)
        check_rows(dataset, self.path, array)
        if len(dataset) != self.num_rows:
            raise DamageError(
                f"{self.path}: {array.path} has {len(dataset)} rows, pts_seconds {self.num_rows}"
            )
        if array.is_compressed:
            return CompressedRows(self._mapped, dataset, self.path)
        return MappedRows(self._mapped, dataset, self.path)


def _id_bytes(table: h5py.Dataset) -> int:
    names = table.dtype.names or ()
    return int(table.dtype["id"].itemsize) if "id" in names else 0


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    except FileNotFoundError:
        raise DamageError(f"{path} is missing; run 'cubereel store repair'") from None
    except ValueError:
        raise DamageError(f"{path} is empty; run 'cubereel store verify'") from None
    except IsADirectoryError:
        raise DamageError(f"{path} is a folder, no shard; run 'cubereel store repair'") from None


def _open(path: Path) -> h5py.File:
    try:
        # No lock: sealed shards never change, and file systems that cannot lock must be readable.
        return h5py.File(path, "r", locking=False)
    except OSError as err:
        if err.errno is not None:
            raise  # the machine: no permission, too many open files
        raise DamageError(
            f"{path} cannot be read as HDF5: {err}; run 'cubereel store verify'"
        ) from err


def _check_file(file: h5py.File, path: Path, arrays: Sequence[ArraySpec], spec: Spec) -> None:
    version = file.attrs.get("format_version")
    if version != FORMAT_VERSION:
        raise StoreError(f"{path} {other_version(None if version is None else int(version))}")
    if text_attribute(file, "spec_digest") != spec.digest:
        raise StoreError(f"{path} was written under another spec than its store.json says")
    if file.userblock_size:
        raise UnsafeStoreError(f"{path} begins with {file.userblock_size} bytes that are not HDF5")
    check_links(file, path)
    names = json.loads(text_attribute(file, "arrays") or "")
    if names != [array.path for array in arrays]:
        raise DamageError(f"{path} lists arrays {names}, store.json {[a.path for a in arrays]}")
    checked_dataset(file, path, "pts_seconds")


def _read_scales(file: h5py.File, path: Path, array: ArraySpec) -> np.ndarray:
    dataset = checked_dataset(file, path, array.scales_path)
    if dataset.shape != array.scales_shape or dataset.dtype != np.float32:
        raise DamageError(
            f"{path}: {array.scales_path} is {dataset.shape} of {dataset.dtype}, "
            f"expected {array.scales_shape} of float32"
        )
    check_filters(dataset, path, is_compressed=False)
    scales: np.ndarray = dataset[:]
    return scales
