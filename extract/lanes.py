"""Batches computed side by side, each on a lane of its own; results come in the order they went in.

On a CPU a lane is one thread that does a batch alone: threads that share every convolution wait for
each other at its end, and for the one whose core a decoder has just taken. On a GPU two lanes have
a stream each, so that copies of one batch go beside the computing of the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np
import torch

from extract.compute import ComputedFrames, CubeComputer

Item = TypeVar("Item")
MAX_CPU_LANES = 8  # each holds the maps of a batch: gigabytes on a large machine otherwise
GPU_LANES = 2


def plan_lanes(device_type: str, *, num_threads: int) -> tuple[int, int]:
    """Return how many lanes there are, and how many threads each may compute with.

    >>> plan_lanes("cpu", num_threads=2), plan_lanes("cpu", num_threads=20)
    ((2, 1), (8, 2))
    """
    if device_type != "cpu":
        return GPU_LANES, num_threads
    lanes = max(1, min(num_threads, MAX_CPU_LANES))
    return lanes, max(1, num_threads // lanes)


class ComputeLanes(Generic[Item]):
    """A bounded queue of batches in work; use as a context manager.

    An item is what belongs to a batch and comes back with its cubes.
    """

    def __init__(self, computer: CubeComputer) -> None:
        self._computer = computer
        self._threads_before = torch.get_num_threads()
        self._num_lanes, self._lane_threads = plan_lanes(
            computer.device.type, num_threads=self._threads_before
        )
        self._queue: deque[tuple[Item, Future[ComputedFrames] | None]] = deque()
        self._executor: ThreadPoolExecutor

    def __enter__(self) -> ComputeLanes[Item]:
        torch.set_num_threads(self._lane_threads)
        self._executor = ThreadPoolExecutor(
            self._num_lanes, "compute", initializer=self._begin_lane
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)
        self._queue.clear()
        torch.set_num_threads(self._threads_before)

    def add(self, item: Item, pixels: np.ndarray | None) -> None:
        """Begin a batch of frames (n, H, W, 3), uint8; None where there is nothing to compute."""
        future = None if pixels is None else self._executor.submit(self._compute, pixels)
        self._queue.append((item, future))

    def ready(self) -> Iterator[tuple[Item, ComputedFrames | None]]:
        """Yield what is done at the head of the queue; wait for it where the queue is long enough.

        Raises:
            MachineError: the device has not enough memory for a batch.
        """
        while self._queue and (self._is_done() or len(self._queue) > self._num_lanes + 1):
            yield self._next()

    def rest(self) -> Iterator[tuple[Item, ComputedFrames | None]]:
        """Yield all that is left; raises as `ready` does."""
        while self._queue:
            yield self._next()

    def _is_done(self) -> bool:
        _, future = self._queue[0]
        return future is None or future.done()

    def _next(self) -> tuple[Item, ComputedFrames | None]:
        item, future = self._queue.popleft()
        return item, None if future is None else future.result()

    def _begin_lane(self) -> None:
        torch.set_num_threads(self._lane_threads)  # OpenMP counts for every thread by itself
        if self._computer.device.type == "cuda":
            torch.cuda.set_device(self._computer.device)
            torch.cuda.set_stream(torch.cuda.Stream(self._computer.device))  # type: ignore[no-untyped-call]

    def _compute(self, pixels: np.ndarray) -> ComputedFrames:
        return self._computer(torch.from_numpy(pixels))
