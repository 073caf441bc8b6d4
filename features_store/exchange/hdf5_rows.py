"""Rows of a table in somebody else's HDF5 file, past HDF5: plain, or through its own filters."""

from __future__ import annotations

import zlib
from math import prod
from pathlib import Path

import numpy as np

from features_store.errors import DamageError, StoreError, UnsafeStoreError
from features_store.format.hdf5.file import Hdf5File
from features_store.format.regular_file import RegularFile
from features_store.format.safety import check_size, contiguous_place

_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_NAMES = {_DEFLATE: "deflate", _SHUFFLE: "shuffle", _FLETCHER32: "fletcher32"}


class Hdf5Rows:
    """The rows of a two-dimensional dataset.

    Args:
        name: of the dataset, at the top of the file.

    Attributes:
        shape: rows and columns.

    Raises:
        DamageError: there is no such dataset, or it cannot be read.
        UnsafeStoreError: it lies elsewhere, or claims more than its file can hold.
        StoreError: it goes through other filters.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._file = RegularFile(path, follow=True)
        hdf5 = Hdf5File(self._file, str(path))
        dataset = hdf5.dataset(name)
        if set(dataset.filters) - set(_NAMES):
            raise StoreError(
                f"{path} goes through HDF5 filters {sorted(dataset.filters)}; store it plainly, or "
                f"through {', '.join(_NAMES.values())}"
            )
        num_bytes = self._file.num_bytes
        check_size(dataset, path, num_bytes, is_compressed=_DEFLATE in dataset.filters)
        self.path, self.shape, self.dtype = path, dataset.shape, dataset.dtype
        self._filters, self._chunks = dataset.filters, dataset.chunks
        self._row_bytes, self._chunk_bytes = dataset.row_bytes, dataset.chunk_bytes
        if dataset.chunks is None:
            self._start = contiguous_place(dataset, path, num_bytes)
            return
        self._offsets, self._sizes, self._masks = hdf5.chunks(dataset)
        if (self._offsets < 0).any() or (self._offsets > num_bytes - self._sizes).any():
            raise UnsafeStoreError(f"{path}: {name!r} has a chunk that is not in this file")
        self._grid = [-(-n // chunk) for n, chunk in zip(self.shape, dataset.chunks, strict=True)]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return rows `start` to `stop` (n, columns)."""
        found = np.empty((rows.stop - rows.start, *self.shape[1:]), self.dtype)
        if self._chunks is None:
            place = self._start + rows.start * self._row_bytes
            self._file.read_into(found.reshape(-1).view(np.uint8).data, place)
            return found
        height, width = self._chunks
        for i in range(rows.start // height, -(-rows.stop // height)):
            first, last = max(rows.start, i * height), min(rows.stop, (i + 1) * height)
            for j in range(self._grid[1]):
                block = self._chunk(i * self._grid[1] + j)[first - i * height : last - i * height]
                columns = found[first - rows.start : last - rows.start, j * width : (j + 1) * width]
                columns[...] = block[:, : columns.shape[1]]
        return found

    def _chunk(self, number: int) -> np.ndarray:
        assert self._chunks is not None
        where = f"{self.path}: chunk {number} of {prod(self._grid)}"
        data = self._file.read(int(self._offsets[number]), int(self._sizes[number]))
        for place, kind in reversed(list(enumerate(self._filters))):
            if self._masks[number] >> place & 1:
                continue
            if kind == _DEFLATE:
                data = self._inflated(data, where)
            elif kind == _SHUFFLE:
                data = np.frombuffer(data, np.uint8).reshape(self.dtype.itemsize, -1).T.tobytes()
            else:
                data, told = data[:-4], data[-4:]
                if fletcher32(data) != int.from_bytes(told, "little"):
                    raise DamageError(f"{where} is not what was written; copy the file again")
        if len(data) != self._chunk_bytes:
            raise DamageError(f"{where} has {len(data)} bytes, expected {self._chunk_bytes}")
        return np.frombuffer(data, self.dtype).reshape(self._chunks)

    def _inflated(self, data: bytes, where: str) -> bytes:
        try:  # with room for a checksum
            return zlib.decompressobj().decompress(data, self._chunk_bytes + 8)
        except zlib.error as err:
            raise DamageError(f"{where} cannot be unpacked: {err}; copy the file again") from err


def fletcher32(data: bytes) -> int:
    """Return the checksum that HDF5 puts behind a chunk.

    >>> hex(fletcher32(bytes([1, 2, 3, 4])))
    '0x5080406'
    """
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.uint64)
    weights = np.arange(len(words), 0, -1).astype(np.uint64) % 65535
    low, high = int(words.sum()) % 65535, int((words * weights).sum()) % 65535
    return high << 16 | low
