"""The chunks of a dataset as they lie in the file: mapped when they are raw, else through HDF5."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import h5py
import numpy as np

from features_store.errors import DamageError, UnsafeStoreError
from features_store.safety import zstd_content_bytes

ZSTD_HEADER_BYTES = 18


class MappedRows:
    """Rows of an uncompressed dataset, read past HDF5 and its lock from a memory map.

    Chunks lie one behind the other in long runs; within a run a window is a view of the map.

    Args:
        mapped: all bytes of the file.
    """

    def __init__(self, mapped: np.ndarray, dataset: h5py.Dataset, path: Path) -> None:
        offsets, sizes = chunk_places(dataset, path, len(mapped))
        chunk_bytes = int(np.prod(dataset.chunks, dtype=np.int64)) * dataset.dtype.itemsize
        if (sizes != chunk_bytes).any():
            raise DamageError(f"{path}: {dataset.name} has chunks of other sizes than it declares")
        starts = [0, *(np.flatnonzero(np.diff(offsets) != chunk_bytes) + 1).tolist()]
        stops = [*starts[1:], len(offsets)]
        self._first_rows = [start * dataset.chunks[0] for start in starts]
        self._runs = []
        for start, stop in zip(starts, stops, strict=True):
            block = mapped[offsets[start] : offsets[start] + (stop - start) * chunk_bytes]
            self._runs.append(block.view(dataset.dtype).reshape(-1, *dataset.shape[1:]))

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


class CompressedRows:
    """Rows of a zstd dataset, read through HDF5.

    The filter takes as much memory as a chunk says that it unpacks to; a chunk that says more than
    a chunk's bytes is never given to it.
    """

    def __init__(self, mapped: np.ndarray, dataset: h5py.Dataset, path: Path) -> None:
        self._dataset, self._chunk_rows = dataset, dataset.chunks[0]
        self._name = f"{path}: {dataset.name}"
        chunk_bytes = int(np.prod(dataset.chunks, dtype=np.int64)) * dataset.dtype.itemsize
        self._is_bomb = np.array(
            [
                (zstd_content_bytes(mapped[o : o + min(n, ZSTD_HEADER_BYTES)].tobytes()) or 0)
                > chunk_bytes
                for o, n in zip(*chunk_places(dataset, path, len(mapped)), strict=True)
            ]
        )

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return rows `start` to `stop`."""
        first, last = rows.start // self._chunk_rows, -(-rows.stop // self._chunk_rows)
        if self._is_bomb[first:last].any():
            raise UnsafeStoreError(
                f"{self._name}: rows {rows.start} to {rows.stop} unpack to more bytes than the "
                "dataset declares; a file that lies about this can fill the memory, do not use it"
            )
        try:
            block: np.ndarray = self._dataset[rows]
        except OSError as err:
            where = f"{self._name}: rows {rows.start} to {rows.stop}"
            raise DamageError(f"{where} cannot be unpacked: {err}") from err
        return block


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
