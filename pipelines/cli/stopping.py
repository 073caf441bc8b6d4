"""Leaving in good order: at a signal, or when the time that a run was given is over."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


class Stopped(BaseException):
    """Leave in good order; what is committed stays. Its text says why."""


def stop_at_signals() -> None:
    """Raise `Stopped` at SIGINT, SIGTERM, and at the end of `time_limit`."""
    for number in SIGNALS:
        signal.signal(number, _stop)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise `Stopped` in what is done within, after this time; None is for ever."""
    if seconds is not None:
        # 0 would mean never.
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _stop(number: int, _frame: FrameType | None) -> None:
    # Leaving takes seconds, in several threads. A second signal in between would break it off.
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Stopped("stopped before the deadline" if number == signal.SIGALRM else "stopped")
