"""Reading one shard: refuse what is unsafe, then hand out rows and records.

No file is read by HDF5, so any number of threads and forked processes may share a reader.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash

from features_store.errors import DamageError, StoreError, UnsafeStoreError
from features_store.format.chunks import CompressedRows, RawRows
from features_store.format.hdf5.file import Hdf5File
from features_store.format.layout import FORMAT_VERSION, ArraySpec, other_version, row_blocks
from features_store.format.records import (
    MAX_TABLE_BYTES,
    VideoRecord,
    check_record,
    is_committed,
    record_dtype,
    unpack_record,
    update_checksum,
    wrong_times,
)
from features_store.format.regular_file import RegularFile
from features_store.format.safety import (
    check_explained,
    check_filters,
    check_rows,
    check_size,
    contiguous_place,
)
from features_store.spec import Spec


class ShardReader:
    """The rows and records of one shard.

    Args:
        path: ``<store>/shards/<unit>.h5``, or a partial beside it.
        arrays: what store.json says that it holds.
        spec: as in store.json.

    Attributes:
        num_rows: of every array; rows that no record claims are unused.
        table_place: where the records lie in the file: offset and bytes.
        scales: path -> float32 scales of cubes that have any.

    Raises:
        DamageError: it is not a readable HDF5 file, or an array is missing or of another shape.
        UnsafeStoreError: it reaches outside itself, or lies about a size.
        StoreError: another format version or another spec.
    """

    def __init__(self, path: Path, arrays: Sequence[ArraySpec], *, spec: Spec) -> None:
        self.path = path
        self.arrays = {array.path: array for array in arrays}
        self._file = _open(path)
        hdf5 = Hdf5File(self._file, str(path))
        _check_file(hdf5, path, arrays, spec)
        self._record_dtype, self.table_place = self._find_table(hdf5, spec)
        self.num_rows = len(hdf5.dataset("pts_seconds"))
        self._rows = {array.path: self._open_rows(hdf5, array) for array in arrays}
        with_scales = [array for array in arrays if array.scales_shape is not None]
        self.scales = {array.path: self._read_scales(hdf5, array) for array in with_scales}
        self._check_size()

    @cached_property
    def table(self) -> np.ndarray:
        """The records; the unused ones at the end have an empty id."""
        return np.frombuffer(self._file.read(*self.table_place), self._record_dtype)

    @property
    def num_videos(self) -> int:
        """Records in use."""
        return int(np.count_nonzero(self.table["id"]))

    def record(self, position: int) -> VideoRecord:
        """Return a record.

        Raises:
            DamageError: it is torn, its rows are not in the shard, or it says what cannot be.
            UnsafeStoreError: its id is none, and could lead out of a store.
        """
        row = self._row(position)
        where = f"{self.path.name}: the record of video number {position}"
        if not is_committed(row):
            raise DamageError(f"{where} is damaged")
        try:
            record = unpack_record(row)
        except UnicodeDecodeError as err:
            raise DamageError(f"{where} holds text that is not UTF-8: {err}") from err
        check_record(record, where)
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

    def check_records(self) -> None:
        """Raise `StoreError` for the first record that cannot be read."""
        for _ in self.records():
            pass

    def place(self, position: int, video_id: bytes) -> tuple[int, int]:
        """Return offset and length of a video whose record is expected at `position`."""
        if 0 <= position < self._num_records:
            row = self._row(position)
            offset, length = (int(row[name][0]) for name in ("offset", "length"))
            if row["id"][0] == video_id and 0 <= offset <= self.num_rows - length and length >= 1:
                return offset, length
        raise DamageError(
            f"{self.path.name} does not hold video {video_id.decode()!r} where index.h5 says; "
            "run 'cubereel store verify'"
        )

    def chunk_rows_of(self, array: str) -> int:
        """Return the rows of an HDF5 chunk of an array; whole chunks are read at once."""
        return self._rows[array].chunk_rows

    def stored_rows(self, array: str, start: int, stop: int) -> np.ndarray:
        """Return rows as they lie in the file; they may be a read-only view of what is kept."""
        return self._rows[array][start:stop]

    def rows(self, array: str, start: int, stop: int) -> np.ndarray:
        """Return rows as they are read; they may be a read-only view of the file.

        Such a view must be used at once: where the file is cut before, the process dies.
        """
        return self.decode(array, self._rows[array].window(slice(start, stop)))

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
        times = row_blocks(record.offset, record.length, 8)
        found = (wrong_times(self.stored_rows("pts_seconds", *block)) for block in times)
        return problems or list(filter(None, found))

    @property
    def _num_records(self) -> int:
        return self.table_place[1] // self._record_dtype.itemsize

    def _row(self, position: int) -> np.ndarray:
        """Return a one-row slice of the table."""
        offset, size = self.table_place[0], self._record_dtype.itemsize
        if "table" in vars(self):
            return self.table[position : position + 1]
        return np.frombuffer(self._file.read(offset + position * size, size), self._record_dtype)

    def _find_table(self, hdf5: Hdf5File, spec: Spec) -> tuple[np.dtype, tuple[int, int]]:
        table = hdf5.dataset("videos")
        check_size(table, self.path, self._file.num_bytes)
        names = table.dtype.names or ()
        expected = record_dtype(
            id_bytes=table.dtype["id"].itemsize if "id" in names else 0,
            num_arrays=len(self.arrays),
            draws_shape=spec.sampling.draws_shape,
        )
        if table.dtype != expected or len(table.shape) != 1:
            raise DamageError(f"{self.path}: the table 'videos' has other columns than FORMAT.md")
        if table.num_bytes > MAX_TABLE_BYTES:
            raise UnsafeStoreError(
                f"{self.path}: the table 'videos' has {table.num_bytes} bytes, more than the "
                f"{MAX_TABLE_BYTES} that a shard may have"
            )
        offset = contiguous_place(table, self.path, self._file.num_bytes)
        return expected, (offset, table.num_bytes)

    def _open_rows(self, hdf5: Hdf5File, array: ArraySpec) -> RawRows | CompressedRows:
        dataset = hdf5.dataset(array.path)
        check_filters(dataset, self.path, is_compressed=array.is_compressed)
        num_bytes = self._file.num_bytes
        check_size(dataset, self.path, num_bytes, is_compressed=array.is_compressed)
        check_rows(hdf5, dataset, self.path, array)
        if len(dataset) != self.num_rows:
            raise DamageError(
                f"{self.path}: {array.path} has {len(dataset)} rows, pts_seconds {self.num_rows}"
            )
        kind = CompressedRows if array.is_compressed else RawRows
        return kind(self._file, hdf5, dataset)

    def _read_scales(self, hdf5: Hdf5File, array: ArraySpec) -> np.ndarray:
        dataset = hdf5.dataset(array.scales_path)
        if dataset.shape != array.scales_shape or dataset.dtype != np.float32:
            raise DamageError(
                f"{self.path}: {array.scales_path} is {dataset.shape} of {dataset.dtype}, "
                f"expected {array.scales_shape} of float32"
            )
        offset = contiguous_place(dataset, self.path, self._file.num_bytes)
        return np.frombuffer(self._file.read(offset, dataset.num_bytes), np.float32)

    def _check_size(self) -> None:
        """Refuse a file that is mostly nothing."""
        explained = self.table_place[1] + sum(scales.nbytes for scales in self.scales.values())
        explained += sum(rows.num_bytes for rows in self._rows.values())
        num_chunks = sum(-(-self.num_rows // rows.chunk_rows) for rows in self._rows.values())
        check_explained(
            explained,
            self.path,
            self._file.num_bytes,
            num_datasets=1 + len(self._rows) + len(self.scales),
            num_chunks=num_chunks,
        )


def _open(path: Path) -> RegularFile:
    try:
        file = RegularFile(path)
    except FileNotFoundError:
        raise DamageError(f"{path} is missing; run 'cubereel store repair'") from None
    if not file.num_bytes:
        raise DamageError(f"{path} is empty; run 'cubereel store verify'")
    return file


def _check_file(hdf5: Hdf5File, path: Path, arrays: Sequence[ArraySpec], spec: Spec) -> None:
    version = hdf5.attribute("format_version")
    number = version.item() if version is not None and version.size == 1 else None
    if number != FORMAT_VERSION:
        raise StoreError(f"{path} {other_version(number)}")
    if hdf5.text("spec_digest") != spec.digest:
        raise StoreError(f"{path} was written under another spec than its store.json says")
    wanted, said = [array.path for array in arrays], hdf5.text("arrays") or ""
    try:
        names = json.loads(said)
    except (ValueError, RecursionError):
        names = said
    if names != wanted:
        raise DamageError(f"{path} lists arrays {str(names)[:200]}, store.json {wanted}")
