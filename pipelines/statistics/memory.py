"""How the memory that a run may take is shared out: sizes of blocks and batches, threads.

Blocks and batches follow from the memory that is given and from the store, never from what is free
at the moment, so that the same command gives the same numbers again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, get_args

from features_store.errors import UsageError
from features_store.format.layout import ArraySpec
from pipelines.statistics.rows import BLOCK_BYTES

PcaOf = Literal["cells", "frames"]

PROGRAM_BYTES = 300 * 2**20  # the interpreter, its libraries, and what they take before a block
THREAD_BLOCKS = 3  # a block as it lies in the file, as it is read, and what is computed of it
MIN_BLOCK_BYTES = 2**20
# Of a batch in float64: itself, that with the components before it, what LAPACK overwrites, and
# its left singular vectors; while the mean is taken there are fewer. One is left to be safe.
BATCH_COPIES = 5
SQUARE_COPIES = 8  # D × D arrays of float64 that LAPACK takes besides
BLOCKS_PER_BATCH = 4  # or more, so that a batch is nearly full
MIN_BATCHES = 2  # a first batch must have more rows than there are components


@dataclass(frozen=True)
class Shares:
    """What fits.

    Attributes:
        block_bytes: of a block's chunks, as they are read.
        threads: blocks in work at a time.
        batch_rows: cells, or frames, that a step of the PCA takes; 0 without one.
    """

    block_bytes: int
    threads: int
    batch_rows: int = 0


def parse_memory(text: str) -> int:
    """Return bytes of a size such as 500MB, 2GiB or 1e9.

    >>> parse_memory("500MB")
    500000000
    """
    from dask.utils import parse_bytes

    try:
        return int(parse_bytes(text))
    except ValueError:
        raise UsageError(f"`memory` must be a size such as 500MB or 8GB, got {text!r}") from None


def share_memory(
    memory_bytes: int, array: ArraySpec, *, num_kept: int = 0, pca_of: PcaOf = "cells"
) -> Shares:
    """Share out the memory of a process.

    Args:
        num_kept: components that a PCA keeps between its steps; 0 for none.

    Raises:
        UsageError: it does not reach for the smallest blocks and batches.
    """
    if pca_of not in get_args(PcaOf):
        raise UsageError(f"`pca_of` must be cells or frames, got {pca_of!r}")
    left = memory_bytes - PROGRAM_BYTES
    row_bytes = _vector_bytes(array, pca_of)
    fixed = SQUARE_COPIES * 8 * array.row_shape[-1] ** 2 if num_kept else 0
    least_batch = MIN_BATCHES * num_kept * row_bytes
    least = fixed + 4 * max(least_batch, THREAD_BLOCKS * MIN_BLOCK_BYTES)
    if left < least:
        wanted = -(-(PROGRAM_BYTES + least) // 10**6)
        raise UsageError(
            f"`memory` must be at least {wanted} MB for this layer, got {memory_bytes / 1e6:.0f} MB"
        )
    if not num_kept:
        return _blocks(left, BLOCK_BYTES)
    # A quarter is for blocks in work, the rest for the batch.
    batch_rows = int((left - fixed) * 3 // 4 // row_bytes)
    block_rows = batch_rows // BLOCKS_PER_BATCH
    if pca_of == "cells":
        block_rows //= array.row_shape[0] * array.row_shape[1]
    blocks = _blocks(left // 4, max(MIN_BLOCK_BYTES, block_rows * array.row_bytes))
    return Shares(blocks.block_bytes, blocks.threads, batch_rows)


def _vector_bytes(array: ArraySpec, pca_of: PcaOf) -> int:
    """Return the bytes of a batch for each of its rows."""
    dim = array.row_shape[-1]
    # Cells wait as they are read, block by block and put together; means of frames are float64.
    waiting = array.dtype.itemsize if pca_of == "cells" else 8
    return dim * (8 * BATCH_COPIES + 2 * waiting)


def _blocks(memory_bytes: int, most: int) -> Shares:
    block_bytes = min(BLOCK_BYTES, most, memory_bytes // THREAD_BLOCKS)
    threads = memory_bytes // (THREAD_BLOCKS * block_bytes)
    return Shares(block_bytes, min(threads, len(os.sched_getaffinity(0))))
