"""Threads that read clips side by side, kept from batch to batch."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

NUM_THREADS = 2


class ReadThreads:
    """Begin when they are needed; each opens a store's shards for itself, once."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def each(self, work: Callable[[int], None], number: int) -> None:
        """Do work for 0, 1, … `number` − 1; raise what one of them raises."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="clips")
        for _ in self._pool.map(work, range(number)):
            pass

    def close(self) -> None:
        """End the threads, and close the shards that they have open."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
