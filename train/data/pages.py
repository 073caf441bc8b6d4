"""Clips in memory that several processes of one machine map, read once by the first of them."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from typing import IO

import numpy as np

from features_store.format.shared_memory import unlinked_file

ALIGNMENT = 4096  # bytes, a page


class SharedPages:
    """Blocks of one set of clips; a context manager. Arrays stay usable when it is closed.

    Args:
        descriptor: of the file that another process has filled; by default one is made.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor
        self._file: IO[bytes] | None = None

    def __enter__(self) -> SharedPages:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def descriptor(self) -> int | None:
        """Of the file; None while there is none."""
        return self._descriptor

    def blocks(
        self,
        kinds: Sequence[tuple[tuple[int, ...], np.dtype]],
        fill: Callable[[list[np.ndarray]], None],
    ) -> list[np.ndarray]:
        """Return an array of each shape and dtype.

        Args:
            fill: called with arrays of zeros, unless another process has filled them.

        Raises:
            MachineError: there is no room for them.
        """
        sizes = [int(np.prod(shape)) * dtype.itemsize for shape, dtype in kinds]
        ends = np.cumsum([-(-size // ALIGNMENT) * ALIGNMENT for size in sizes])
        starts = [0, *ends[:-1].tolist()]
        is_filled, num_bytes = self._descriptor is not None, max(int(ends[-1]), ALIGNMENT)
        if self._descriptor is None:
            self._file = unlinked_file(num_bytes, what="clips")
            self._descriptor = self._file.fileno()
        memory = mmap.mmap(self._descriptor, num_bytes)
        blocks = [
            np.frombuffer(memory, np.uint8, count=size, offset=start).view(dtype).reshape(shape)
            for (shape, dtype), size, start in zip(kinds, sizes, starts, strict=True)
        ]
        if not is_filled:
            fill(blocks)
        return blocks
