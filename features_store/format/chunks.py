"""The chunks of a dataset as they lie in the file, read and unpacked past HDF5."""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import zstandard

from features_store.errors import DamageError, UnsafeStoreError


class MappedRows:
    """Rows of an uncompressed dataset, read past HDF5 and its lock from a memory map.

    Chunks lie one behind the other in long runs; within a run a window is a view of the map.

    Args:
        mapped: all bytes of the file.

    Attributes:
        chunk_rows: rows of a chunk; the last one may have fewer in use.
    """

    def __init__(self, mapped: np.ndarray, dataset: h5py.Dataset, path: Path) -> None:
        self.chunk_rows = int(dataset.chunks[0])
        runs = chunk_runs(dataset, path, len(mapped))
        self._first_rows = [run.first_row for run in runs]
        self._runs = [
            mapped[run.offset : run.offset + run.num_bytes]
            .view(dataset.dtype)
            .reshape(-1, *dataset.shape[1:])
            for run in runs
        ]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return rows `start` to `stop`; a view of the map where they lie in one run."""
        start, stop = rows.start, rows.stop
        run = bisect_right(self._first_rows, start) - 1
        first = self._first_rows[run]
        block: np.ndarray = self._runs[run][start - first : stop - first]
        if len(block) == stop - start:
            return block
        pieces = [block]
        while (start := start + len(pieces[-1])) < stop:
            run += 1
            pieces.append(self._runs[run][: stop - start])
        return np.concatenate(pieces)


class PlacedRows:
    """Rows of an uncompressed dataset, written past HDF5 to where they belong in the file.

    HDF5 must have allocated all chunks and keep none of them in a cache.
    """

    def __init__(self, descriptor: int, dataset: h5py.Dataset, path: Path) -> None:
        self._descriptor = descriptor
        self._runs = chunk_runs(dataset, path, os.fstat(descriptor).st_size)
        self._first_rows = [run.first_row for run in self._runs]

    def write(self, start: int, rows: np.ndarray) -> None:
        """Write contiguous rows of the dataset's dtype from row `start` on."""
        while len(rows):
            run = self._runs[bisect_right(self._first_rows, start) - 1]
            count = min(len(rows), run.first_row + run.num_rows - start)
            place = run.offset + (start - run.first_row) * run.row_bytes
            write_at(self._descriptor, rows[:count].reshape(-1).view(np.uint8).data, place)
            rows, start = rows[count:], start + count


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all bytes; the system may take them in several pieces."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


class CompressedRows:
    """Rows of a zstd dataset, unpacked past HDF5 and its lock from a memory map.

    A chunk that says that it unpacks to more than a chunk's bytes is never unpacked. The last one
    is kept: the next rows are likely to begin in it.

    Attributes:
        chunk_rows: as of `MappedRows`.
    """

    def __init__(self, mapped: np.ndarray, dataset: h5py.Dataset, path: Path) -> None:
        self._mapped, self.chunk_rows = mapped, int(dataset.chunks[0])
        self._name = f"{path}: {dataset.name}"
        self._shape, self._dtype = dataset.chunks, dataset.dtype
        self._chunk_bytes = int(np.prod(dataset.chunks, dtype=np.int64)) * dataset.dtype.itemsize
        self._places = chunk_places(dataset, path, len(mapped))
        self._decompressor = zstandard.ZstdDecompressor()
        self._last: tuple[int, np.ndarray] | None = None

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return rows `start` to `stop`."""
        first, last = rows.start // self.chunk_rows, -(-rows.stop // self.chunk_rows)
        if first == last - 1:
            chunk, start = self._chunk(first), first * self.chunk_rows
            return chunk[rows.start - start : rows.stop - start]
        found = np.empty((max(rows.stop - rows.start, 0), *self._shape[1:]), self._dtype)
        for number in range(first, last):
            start = number * self.chunk_rows
            begin, end = max(rows.start, start), min(rows.stop, start + self.chunk_rows)
            chunk = self._chunk(number)[begin - start : end - start]
            found[begin - rows.start : end - rows.start] = chunk
        return found

    def _chunk(self, number: int) -> np.ndarray:
        if self._last is None or self._last[0] != number:
            self._last = number, self._unpack(number)
        return self._last[1]

    def _unpack(self, number: int) -> np.ndarray:
        offset, num_bytes = (int(each[number]) for each in self._places)
        frame = self._mapped[offset : offset + num_bytes].data
        where = f"{self._name}: the chunk of row {number * self.chunk_rows}"
        try:
            if zstandard.frame_content_size(frame) > self._chunk_bytes:
                raise UnsafeStoreError(
                    f"{where} unpacks to more bytes than the dataset declares; a file that lies "
                    "about this can fill the memory, do not use it"
                )
            unpacked = self._decompressor.decompress(frame, max_output_size=self._chunk_bytes)
        except zstandard.ZstdError as err:
            raise DamageError(f"{where} cannot be unpacked: {err}") from err
        if len(unpacked) != self._chunk_bytes:
            raise DamageError(
                f"{where} unpacks to {len(unpacked)} bytes, expected {self._chunk_bytes}"
            )
        return np.frombuffer(unpacked, self._dtype).reshape(self._shape)


@dataclass(frozen=True)
class ChunkRun:
    """Raw chunks that lie one behind the other in a file."""

    first_row: int
    num_rows: int
    offset: int
    row_bytes: int

    @property
    def num_bytes(self) -> int:
        """Of all its rows."""
        return self.num_rows * self.row_bytes


def chunk_runs(dataset: h5py.Dataset, path: Path, file_bytes: int) -> list[ChunkRun]:
    """Return the runs of an uncompressed dataset, in the order of rows.

    Raises:
        DamageError: a chunk is missing, or has another size than the dataset declares.
        UnsafeStoreError: a chunk lies outside the file.
    """
    offsets, sizes = chunk_places(dataset, path, file_bytes)
    chunk_rows = dataset.chunks[0]
    row_bytes = int(np.prod(dataset.chunks[1:], dtype=np.int64)) * dataset.dtype.itemsize
    if (sizes != chunk_rows * row_bytes).any():
        raise DamageError(f"{path}: {dataset.name} has chunks of other sizes than it declares")
    starts = [0, *(np.flatnonzero(np.diff(offsets) != chunk_rows * row_bytes) + 1).tolist()]
    stops = [*starts[1:], len(offsets)]
    return [
        ChunkRun(start * chunk_rows, (stop - start) * chunk_rows, int(offsets[start]), row_bytes)
        for start, stop in zip(starts, stops, strict=True)
    ]


def chunk_places(
    dataset: h5py.Dataset, path: Path, file_bytes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return byte offset and stored size of every chunk, in the order of rows.

    Raises:
        DamageError: a chunk is missing.
        UnsafeStoreError: a chunk lies outside the file, or skips a filter.
    """
    num_chunks = -(-dataset.shape[0] // dataset.chunks[0])
    if dataset.shape[0] < 1 or dataset.id.get_num_chunks() != num_chunks:
        raise DamageError(f"{path}: chunks of {dataset.name} are missing, or it has no row")
    places: list[tuple[int, int, int, int]] = []
    dataset.id.chunk_iter(
        lambda chunk: places.append(
            (chunk.chunk_offset[0], chunk.byte_offset, chunk.size, chunk.filter_mask)
        )
    )
    rows, offsets, sizes, masks = np.array(sorted(places), np.int64).reshape(-1, 4).T
    if not np.array_equal(rows, np.arange(num_chunks) * dataset.chunks[0]):
        raise DamageError(f"{path}: {dataset.name} has chunks that are not whole rows")
    if masks.any() or (offsets < 0).any() or (sizes < 0).any() or (
        offsets > file_bytes - sizes
    ).any():  # fmt: skip
        raise UnsafeStoreError(f"{path}: {dataset.name} has a chunk that is not in this file")
    return offsets, sizes
