"""The rows of a dataset as they lie in the file, read and unpacked past HDF5."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import zstandard

from features_store.errors import DamageError, UnsafeStoreError
from features_store.format.hdf5.datasets import Dataset
from features_store.format.hdf5.file import Hdf5File
from features_store.format.regular_file import RegularFile

MARGIN_BYTES = 2**10  # by which zstd may make a small chunk larger


class RawRows:
    """Rows of an uncompressed dataset, read from where they lie.

    Chunks lie one behind the other in long runs, so a window is most often read at once.

    Attributes:
        chunk_rows: rows of a chunk; the last one may have fewer in use.
        num_bytes: of all chunks in the file.
    """

    def __init__(self, file: RegularFile, hdf5: Hdf5File, dataset: Dataset) -> None:
        assert dataset.chunks is not None
        self._file, self.chunk_rows = file, dataset.chunks[0]
        self._shape, self._dtype = dataset.shape[1:], dataset.dtype
        self._row_bytes = dataset.row_bytes
        self._runs = chunk_runs(file, hdf5, dataset)
        self._first_rows = [run.first_row for run in self._runs]
        self.num_bytes = sum(run.num_bytes for run in self._runs)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return rows `start` to `stop`, in memory of their own."""
        found = np.empty((max(rows.stop - rows.start, 0), *self._shape), self._dtype)
        self.read_into(found, rows.start)
        return found

    def window(self, rows: slice) -> np.ndarray:
        """Return rows `start` to `stop`; a view of the file's map where they lie in one run."""
        run = self._runs[bisect_right(self._first_rows, rows.start) - 1]
        first, last = rows.start - run.first_row, rows.stop - run.first_row
        if not 0 <= first <= last <= run.num_rows:
            return self[rows]
        try:
            mapped = self._file.mapped
        except OSError:  # no more may be open, or the disk maps nothing
            return self[rows]
        self._file.require_whole()
        place = run.offset + first * self._row_bytes
        found = mapped[place : place + (last - first) * self._row_bytes]
        return found.view(self._dtype).reshape(last - first, *self._shape)

    def read_into(self, found: np.ndarray, start: int) -> None:
        """Fill contiguous memory (n, …) with the rows from `start` on."""
        data, stop = found.reshape(-1).view(np.uint8).data, start + len(found)
        number = bisect_right(self._first_rows, start) - 1
        while start < stop:
            run = self._runs[number]
            count = min(stop, run.first_row + run.num_rows) - start
            num_bytes = count * self._row_bytes
            place = run.offset + (start - run.first_row) * self._row_bytes
            self._file.read_into(data[:num_bytes], place)
            data, start, number = data[num_bytes:], start + count, number + 1


class CompressedRows:
    """Rows of a zstd dataset, unpacked past HDF5.

    A chunk that says that it unpacks to more than a chunk's bytes is never unpacked. The last one
    is kept: the next rows are likely to begin in it.

    Attributes:
        chunk_rows, num_bytes: as of `RawRows`.
    """

    def __init__(self, file: RegularFile, hdf5: Hdf5File, dataset: Dataset) -> None:
        assert dataset.chunks is not None
        self._file, self.chunk_rows = file, dataset.chunks[0]
        self._name = f"{file.path}: {dataset.name}"
        self._shape, self._dtype = dataset.chunks, dataset.dtype
        self._chunk_bytes = dataset.chunk_bytes
        self._places = chunk_places(file, hdf5, dataset)
        self.num_bytes = int(self._places[1].sum())
        self._decompressor = zstandard.ZstdDecompressor()
        self._last: tuple[int, np.ndarray] | None = None

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return rows `start` to `stop`; they may be a read-only view of a chunk that is kept."""
        first, last = rows.start // self.chunk_rows, -(-rows.stop // self.chunk_rows)
        if first == last - 1:
            chunk, start = self._chunk(first), first * self.chunk_rows
            return chunk[rows.start - start : rows.stop - start]
        found = np.empty((max(rows.stop - rows.start, 0), *self._shape[1:]), self._dtype)
        self.read_into(found, rows.start)
        return found

    def window(self, rows: slice) -> np.ndarray:
        """Return rows `start` to `stop`, as indexing does."""
        return self[rows]

    def read_into(self, found: np.ndarray, start: int) -> None:
        """Fill memory (n, …) with the rows from `start` on."""
        begin, stop = start, start + len(found)
        while begin < stop:
            number, within = divmod(begin, self.chunk_rows)
            chunk = self._chunk(number)[within : within + stop - begin]
            found[begin - start : begin - start + len(chunk)] = chunk
            begin += len(chunk)

    def _chunk(self, number: int) -> np.ndarray:
        last = self._last
        if last is None or last[0] != number:
            last = self._last = number, self._unpack(number)
        return last[1]

    def _unpack(self, number: int) -> np.ndarray:
        offset, num_bytes = (int(each[number]) for each in self._places)
        frame = self._file.read(offset, num_bytes)
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


def chunk_runs(file: RegularFile, hdf5: Hdf5File, dataset: Dataset) -> list[ChunkRun]:
    """Return the runs of an uncompressed dataset, in the order of rows.

    Raises:
        DamageError: a chunk is missing, or has another size than the dataset declares.
        UnsafeStoreError: a chunk lies outside the file.
    """
    assert dataset.chunks is not None
    offsets, sizes = chunk_places(file, hdf5, dataset)
    chunk_rows, chunk_bytes = dataset.chunks[0], dataset.chunk_bytes
    if (sizes != chunk_bytes).any():
        raise DamageError(f"{file.path}: {dataset.name} has chunks of other sizes than it declares")
    starts = [0, *(np.flatnonzero(np.diff(offsets) != chunk_bytes) + 1).tolist()]
    stops = [*starts[1:], len(offsets)]
    return [
        ChunkRun(
            start * chunk_rows, (stop - start) * chunk_rows, int(offsets[start]), dataset.row_bytes
        )
        for start, stop in zip(starts, stops, strict=True)
    ]


def chunk_places(
    file: RegularFile, hdf5: Hdf5File, dataset: Dataset
) -> tuple[np.ndarray, np.ndarray]:
    """Return byte offset and stored size of every chunk, in the order of rows.

    Raises:
        DamageError: a chunk is missing, or is not of whole rows.
        UnsafeStoreError: a chunk lies outside the file, skips a filter, or has more bytes than
            zstd makes of anything.
    """
    offsets, sizes, masks = hdf5.chunks(dataset)
    ends = offsets > file.num_bytes - sizes
    if masks.any() or (offsets < 0).any() or ends.any():
        raise UnsafeStoreError(f"{file.path}: {dataset.name} has a chunk that is not in this file")
    if (sizes > 2 * dataset.chunk_bytes + MARGIN_BYTES).any():
        raise UnsafeStoreError(
            f"{file.path}: {dataset.name} has a chunk that compression made larger"
        )
    return offsets, sizes
