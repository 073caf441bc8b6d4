"""Batches computed side by side, each on a lane of its own; results come in the order they went in.

On a CPU a lane is one thread that does a batch alone: threads that share every convolution wait for
each other at its end, and for the one whose core a decoder has just taken. On a GPU lanes have
a stream each, so that copies of one batch go beside the computing of the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
MAX_CPU_LANES = 8  # each holds the maps of a batch: gigabytes on a large machine otherwise
GPU_LANES = 3  # one copies up, one computes, one copies down


def plan_lanes(device_type: str, *, num_threads: int) -> tuple[int, int]:
    """Return how many lanes there are, and how many threads each may compute with.

    >>> plan_lanes("cpu", num_threads=2), plan_lanes("cpu", num_threads=20)
    ((2, 1), (8, 2))
    """
    if device_type != "cpu":
        return GPU_LANES, num_threads
    lanes = max(1, min(num_threads, MAX_CPU_LANES))
    return lanes, max(1, num_threads // lanes)


class ComputeLanes(Generic[Item, Result]):
    """A bounded queue of batches in work; use as a context manager.

    An item is what belongs to a batch and comes back with its result.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._threads_before = torch.get_num_threads()
        self._num_lanes, self._lane_threads = plan_lanes(
            device.type, num_threads=self._threads_before
        )
        self._queue: deque[tuple[Item, Future[Result] | None]] = deque()
        self._executor: ThreadPoolExecutor

    def __enter__(self) -> ComputeLanes[Item, Result]:
        torch.set_num_threads(self._lane_threads)
        self._executor = ThreadPoolExecutor(
            self._num_lanes, "compute", initializer=self._begin_lane
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)
        self._queue.clear()
        torch.set_num_threads(self._threads_before)

    def add(self, item: Item, work: Callable[[], Result] | None) -> None:
        """Begin a batch; None where there is nothing to compute."""
        self._queue.append((item, None if work is None else self._executor.submit(work)))

    def ready(self) -> Iterator[tuple[Item, Result | None]]:
        """Yield what is done at the head of the queue; wait for it where the queue is long enough.

        Raises:
            Exception: whatever the work raised.
        """
        while self._queue and (self._is_done() or len(self._queue) > self._num_lanes + 1):
            yield self._next()

    def rest(self) -> Iterator[tuple[Item, Result | None]]:
        """Yield all that is left; raises as `ready` does."""
        while self._queue:
            yield self._next()

    def _is_done(self) -> bool:
        _, future = self._queue[0]
        return future is None or future.done()

    def _next(self) -> tuple[Item, Result | None]:
        item, future = self._queue.popleft()
        return item, None if future is None else future.result()

    def _begin_lane(self) -> None:
        torch.set_num_threads(self._lane_threads)  # OpenMP counts for every thread by itself
        if self._device.type == "cuda":
            # Makes the device of the stream this thread's own too.
            torch.cuda.set_stream(torch.cuda.Stream(self._device))  # type: ignore[no-untyped-call]
