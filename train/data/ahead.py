"""Batches one after the other: where clips are not in memory, the next is read meanwhile."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from train.data.batch import Batch
from train.data.clips import Clips, Staging
from train.data.order import cut


class BatchReader:
    """Reads batches of clips into two blocks of memory, in turn.

    A batch is overwritten by the one after the next, so nobody may keep one.
    """

    def __init__(self, clips: Clips) -> None:
        self._clips = clips
        self._stagings = Staging(), Staging()

    def read(self, order: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, Batch]]:
        """Yield the positions of each batch, and the batch."""
        if self._clips.is_resident:
            # There is nothing to wait for, and a second core has a fit of its own.
            for chosen in order:
                yield chosen, self._clips.batch(chosen, staging=self._stagings[0])
            return
        with ThreadPoolExecutor(1, thread_name_prefix="clips") as pool:
            coming = None
            for number, chosen in enumerate(order):
                staging = self._stagings[number % 2]
                following = chosen, pool.submit(self._clips.batch, chosen, staging=staging)
                if coming is not None:
                    yield coming[0], coming[1].result()
                coming = following
            if coming is not None:
                yield coming[0], coming[1].result()


@dataclass(frozen=True)
class Epoch:
    """The batches of some clips in order, read anew whenever they are iterated over."""

    clips: Clips
    positions: np.ndarray
    batch_size: int

    def __iter__(self) -> Iterator[Batch]:
        """Yield a batch at a time."""
        order = cut(self.positions, self.batch_size)
        return (batch for _, batch in BatchReader(self.clips).read(order))
