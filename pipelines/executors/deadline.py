"""When a run must have ended: from ``--deadline`` or SLURM, and whether another video fits in.

A run stops in two steps. It begins no video for which, by the longest one so far, there may be no
time. What is in work when nothing but the margin is left is dropped, and the margin is for sealing.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime

from features_store.errors import UsageError

SLURM_VARIABLE = "SLURM_JOB_END_TIME"  # seconds since 1970
MAX_SECONDS = 366 * 86400.0
MARGIN_SHARE, MAX_MARGIN_SECONDS = 0.1, 60.0
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(
    r"(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?"
)


class Deadline:
    """Counts down to the end of a run; a run with ``Deadline(None)`` has none.

    Args:
        seconds: from now until the run must have ended.
        clock: seconds that only grow.
    """

    def __init__(
        self, seconds: float | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._stop: float | None = None
        if seconds is not None:
            self._stop = clock() + seconds - min(MARGIN_SHARE * seconds, MAX_MARGIN_SECONDS)
        self._begun: deque[float] = deque()
        self._longest = 0.0

    @classmethod
    def until(cls, time_of_clock: float | None) -> Deadline:
        """Return the deadline of another process, by the time at which no work may be left."""
        deadline = cls(None)
        if time_of_clock is not None:
            deadline._stop = deadline._clock() + time_of_clock - time.time()
        return deadline

    @property
    def time_of_clock(self) -> float | None:
        """The time at which no work may be left, for other processes; None without a deadline."""
        return None if self.seconds_left is None else time.time() + self.seconds_left

    @property
    def seconds_left(self) -> float | None:
        """Until what is in work is dropped; None without a deadline."""
        return None if self._stop is None else self._stop - self._clock()

    @property
    def is_near(self) -> bool:
        """Whether a video that takes as long as the longest so far would come too late."""
        left = self.seconds_left
        return left is not None and left <= self._longest

    def may_begin(self) -> bool:
        """Whether there is time for another video; if so, it has begun now."""
        if self.is_near:
            return False
        self._begun.append(self._clock())
        return True

    def finished(self) -> None:
        """Say that the video that began first of those in work is done."""
        self._longest = max(self._longest, self._clock() - self._begun.popleft())


def seconds_until_deadline(
    text: str | None, *, environment: Mapping[str, str], now: float
) -> float | None:
    """Return the seconds from `now` (since 1970) to what ``--deadline`` or else SLURM says.

    SLURM's time is that of the job's start; one that cannot be read, has passed (the job was given
    more time) or is years away says nothing.

    Raises:
        UsageError: the text is neither a duration nor a time to come.
    """
    if text is not None:
        return parse_deadline(text, now=now)
    said = environment.get(SLURM_VARIABLE, "")
    seconds = int(said) - now if re.fullmatch(r"\d{1,12}", said) else 0.0
    return seconds if 0 < seconds <= MAX_SECONDS else None


def parse_deadline(text: str, *, now: float) -> float:
    """Return the seconds until a duration is over, or until a local or zoned ISO time.

    >>> parse_deadline("3h30m", now=0), parse_deadline("90", now=0), parse_deadline("1.5s", now=0)
    (12600.0, 90.0, 1.5)
    >>> parse_deadline("1970-01-02T00:00+00:00", now=100)
    86300.0
    """
    match = _DURATION.fullmatch(f"{text}s" if re.fullmatch(r"\d+(\.\d+)?", text) else text)
    if text and match:
        parts = {unit: float(number) for unit, number in match.groupdict().items() if number}
        seconds = sum(_UNITS[unit] * number for unit, number in parts.items())
    else:
        try:
            seconds = datetime.fromisoformat(text).timestamp() - now
        except (ValueError, OverflowError, OSError):
            raise UsageError(
                f"`deadline` must be a duration such as 3h30m, seconds, or a time such as "
                f"2030-01-31T18:00, got {text!r}"
            ) from None
    if not 0 < seconds <= MAX_SECONDS:
        raise UsageError(
            f"`deadline` {text!r} is {seconds:g} seconds from now; more than 0 and at most "
            f"{MAX_SECONDS:g} (a year) are expected"
        )
    return float(seconds)
