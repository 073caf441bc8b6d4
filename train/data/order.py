"""In what order clips are read: shuffled, and batched with clips of near length."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

POOL_BATCHES = 8  # so many batches' clips are sorted by length among each other


def cut(positions: Sequence[int] | np.ndarray, batch_size: int) -> list[Int[np.ndarray, " b"]]:
    """Return positions in their order, a batch at a time.

    >>> [part.tolist() for part in cut(range(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    array = np.asarray(positions)
    return [array[start : start + batch_size] for start in range(0, len(array), batch_size)]


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
    batches: list[np.ndarray] = []
    for pool in cut(rng.permutation(positions), batch_size * POOL_BATCHES):
        batches += cut(pool[np.argsort(lengths[pool], kind="stable")], batch_size)
    # Of a pool the short ones come first, and the last batch may be a small one.
    for i in rng.permutation(len(batches)):
        yield batches[i]
