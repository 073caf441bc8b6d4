"""One function called with one item after the other in a thread of its own, behind the caller."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec

Arguments = ParamSpec("Arguments")


class Behind:
    """Calls in order and never two at once; use as a context manager.

    Leaving it waits for the calls that are due. After an error, the caller's or a call's own, what
    has not begun is dropped, and what has begun is waited for.

    Args:
        ahead: calls that may be due before the caller waits.
    """

    def __init__(self, name: str, *, ahead: int) -> None:
        self._executor = ThreadPoolExecutor(1, name)
        self._ahead = ahead
        self._due: deque[Future[None]] = deque()
        self._has_failed = False  # set and read in the thread that calls

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._due:
                self._due.popleft().result()
        finally:
            self._executor.shutdown(cancel_futures=True)

    def call(
        self, function: Callable[Arguments, None], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> None:
        """Have a function called in its turn.

        Raises:
            Exception: whatever an earlier call raised.
        """
        work = partial(function, *args, **kwargs)
        self._due.append(self._executor.submit(self._call_unless_failed, work))
        while self._due and (self._due[0].done() or len(self._due) > self._ahead):
            self._due.popleft().result()

    def _call_unless_failed(self, work: Callable[[], None]) -> None:
        # What was due behind a call that failed must not be done as if that had been done.
        if self._has_failed:
            return
        try:
            work()
        except BaseException:
            self._has_failed = True
            raise
