"""Packing frames of many videos into batches of one size: pure bookkeeping.

Videos are short and batches are long, so a batch holds the end of one video and the beginning of
the next. What ends a video travels in the same queue, behind its last frame.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

End = TypeVar("End")


@dataclass(frozen=True)
class FrameBlock:
    """Consecutive kept frames of one video: pixels (n, stacked H, W, 3) uint8, and their times."""

    pixels: np.ndarray
    pts_seconds: np.ndarray
    frame_index: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def split(self, num_frames: int) -> "tuple[FrameBlock, FrameBlock]":
        """Return the first `num_frames` and the rest."""
        arrays = (self.pixels, self.pts_seconds, self.frame_index)
        return (
            FrameBlock(*(array[:num_frames] for array in arrays)),
            FrameBlock(*(array[num_frames:] for array in arrays)),
        )


class BatchPacker(Generic[End]):
    """A queue of frame blocks and video ends, cut into batches.

    >>> packer = BatchPacker(4)
    >>> block = FrameBlock(np.zeros((3, 1, 1, 3)), np.zeros(3), np.zeros(3))
    >>> for end in ("a", "b"):
    ...     packer.add(block)
    ...     packer.add(end)
    >>> [[len(x) if isinstance(x, FrameBlock) else x for x in batch] for batch in packer.full()]
    [[3, 'a', 1]]
    >>> [len(x) if isinstance(x, FrameBlock) else x for x in packer.rest()]
    [2, 'b']
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._queue: deque[FrameBlock | End] = deque()
        self._num_frames = 0

    def add(self, item: "FrameBlock | End") -> None:
        """Append a block, or what ends the video whose blocks came last."""
        if isinstance(item, FrameBlock):
            self._num_frames += len(item)
        self._queue.append(item)

    def full(self) -> "Iterator[list[FrameBlock | End]]":
        """Yield every batch of exactly `batch_size` frames, with the ends among them."""
        while self._num_frames >= self.batch_size:
            yield self._take(self.batch_size)

    def rest(self) -> "list[FrameBlock | End]":
        """Return all that is left: fewer frames than a batch, and the ends behind them."""
        return self._take(self._num_frames)

    def _take(self, num_frames: int) -> "list[FrameBlock | End]":
        batch: list[FrameBlock | End] = []
        self._num_frames -= num_frames
        while self._queue:
            item = self._queue[0]
            if not isinstance(item, FrameBlock):
                batch.append(self._queue.popleft())
                continue
            if num_frames == 0:
                break
            head, tail = item.split(num_frames)
            num_frames -= len(head)
            batch.append(head)
            self._queue.popleft()
            if len(tail):
                self._queue.appendleft(tail)
        return batch
