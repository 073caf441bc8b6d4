"""The chunks of a dataset: a tree whose leaves say where each one lies."""

from __future__ import annotations

import struct

import numpy as np

from features_store.format.hdf5.datasets import Dataset
from features_store.format.hdf5.parsing import MalformedError, Pages, expect

MAX_CHUNKS, MAX_LEVEL = 2**22, 16
_NODE = struct.Struct("<4sBBHQQ")


def read_chunks(pages: Pages, dataset: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return offset, stored size and filter mask of every chunk, in the order of the values.

    Every leaf must have the chunks that come next, so that no more nodes are read than there are
    chunks, wherever their addresses lead.

    Raises:
        MalformedError: there are not just the chunks that the shape asks for, in their order.
    """
    assert dataset.chunks is not None, "contiguous values have no chunks"
    grid = [
        -(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True)
    ]
    number = int(np.prod(grid, dtype=object))
    if not 0 < number <= MAX_CHUNKS or dataset.offset is None:
        raise MalformedError(f"it has {number} chunks, or they are missing")
    rank = len(grid)
    entry = np.dtype([("size", "<u4"), ("mask", "<u4"), ("at", "<u8", (rank + 1,)),
                      ("child", "<u8")])  # fmt: skip
    found = np.empty(number, entry)
    count = 0
    waiting = [(dataset.offset, MAX_LEVEL)]
    while waiting:
        address, above = waiting.pop()
        head = pages.read(address, _NODE.size)
        expect(head, b"TREE", "tree of chunks")
        _, kind, level, used, _, _ = _NODE.unpack(head)
        if kind != 1 or level >= above or not used:
            raise MalformedError("the tree of chunks has no order")
        entries = np.frombuffer(pages.read(address + _NODE.size, used * entry.itemsize), entry)
        if level:
            waiting += [(child, level) for child in entries["child"][::-1].tolist()]
        elif count + used > number or not _are_next(entries["at"], count, grid, dataset.chunks):
            raise MalformedError("chunks are missing, or are not in order")
        else:
            found[count : count + used] = entries
            count += used
    if count < number:
        raise MalformedError(f"there are {count} of {number} chunks")
    return found["child"].astype(np.int64), found["size"].astype(np.int64), found["mask"]


def _are_next(at: np.ndarray, first: int, grid: list[int], chunks: tuple[int, ...]) -> bool:
    """Whether chunks begin where those from number `first` on should."""
    numbers = np.arange(first, first + len(at))
    wanted = np.stack(np.unravel_index(numbers, grid), 1) * chunks
    return bool((at[:, :-1] == wanted.astype(np.uint64)).all() and not at[:, -1].any())
