"""In what order clips are read: shuffled, and batched with clips of near length."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

POOL_BATCHES = 8  # so many batches' clips are sorted by length among each other


def shuffled_batches(
    positions: Int[np.ndarray, " n"],
    lengths: Int[np.ndarray, " clips"],
    *,
    batch_size: int,
    rng: np.random.Generator,
) -> Iterator[Int[np.ndarray, " b"]]:
    """Yield all positions once, in batches whose order is random.

    A batch is as long as its longest clip. So the clips of a few batches at a time are sorted by
    length before they are cut; where all are of one length, batches are those of the shuffle.

    Args:
        lengths: of every clip.
    """
    shuffled = rng.permutation(positions)
    pool_size = batch_size * POOL_BATCHES
    batches = []
    for start in range(0, len(shuffled), pool_size):
        pool = shuffled[start : start + pool_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    # Of a pool the short ones come first, and the last batch may be a small one.
    for i in rng.permutation(len(batches)):
        yield batches[i]
