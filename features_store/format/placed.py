"""Rows written past HDF5, to where they belong in the file."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from features_store.format.chunks import ChunkRun


class PlacedRows:
    """Rows of an uncompressed dataset, written past HDF5 to where they belong in the file.

    HDF5 must have allocated all chunks and keep none of them in a cache.
    """

    def __init__(self, descriptor: int, runs: Sequence[ChunkRun]) -> None:
        self._descriptor, self._runs = descriptor, runs
        self._first_rows = [run.first_row for run in runs]

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
