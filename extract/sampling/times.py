"""A fixed number of frames, each at a time that is known before a frame is decoded.

Kept is, for each of these times, the first frame with pts >= that time, with half a tick of
tolerance, and the last frame where none is as late. Times are in ticks, exact.
"""

from abc import abstractmethod
from collections.abc import Sequence
from fractions import Fraction

from extract.sampling.nominal import NominalTiming
from extract.sampling.policy import Extent, FrameSampler, SamplingPolicy, Timeline, with_slack


class TimesSampler(FrameSampler):
    """Keep the frames that are due at some times, each frame once.

    Args:
        times: R draws of S times, in ticks.

    >>> sampler = TimesSampler([[Fraction(0), Fraction(7, 2)], [Fraction(3), Fraction(9)]])
    >>> [pts for pts in range(0, 6, 2) if sampler.keep(pts)], sampler.keep_last()
    ([0, 4], False)
    >>> sampler.draws
    ((0, 1), (1, 1))
    """

    def __init__(self, times: Sequence[Sequence[Fraction]]) -> None:
        self._times = times
        self._due = sorted({time for draw in times for time in draw}, reverse=True)
        self._rows: dict[Fraction, int] = {}
        self._num_kept = 0
        self._kept_latest = False

    def keep(self, pts: int) -> bool:
        """Say whether the next frame in presentation order, shown at `pts` ticks, is kept."""
        self._kept_latest = False
        while self._due and 2 * self._due[-1] <= 2 * pts + 1:
            self._rows[self._due.pop()] = self._num_kept
            self._kept_latest = True
        self._num_kept += self._kept_latest
        return self._kept_latest

    def keep_last(self) -> bool:
        """Say, when no frame comes any more, whether the latest one, not kept yet, is after all."""
        is_kept = bool(self._due) and not self._kept_latest
        self._num_kept += is_kept
        self._rows |= dict.fromkeys(self._due, self._num_kept - 1)
        self._due = []
        return is_kept

    @property
    def draws(self) -> tuple[tuple[int, ...], ...]:
        """The row of every time, R draws of S; complete after `keep_last`."""
        return tuple(tuple(self._rows[time] for time in draw) for draw in self._times)


class TimesPolicy(SamplingPolicy):
    """The base of kinds that keep a fixed number of frames."""

    @abstractmethod
    def wanted_times(self, extent: Extent, draw_key: str) -> list[list[Fraction]]:
        """Return R draws of S times each, in ticks."""

    @property
    def _num_wanted(self) -> int:
        return (1 + self._sampling.jitter) * int(self._sampling.value)

    def sampler(self, timeline: Timeline) -> TimesSampler:
        """Return a fresh sampler for one video."""
        return TimesSampler(self.wanted_times(timeline.find_extent(), timeline.draw_key))

    def count(self, timing: NominalTiming, frames: range) -> int:
        """Return how many of some consecutive frames are kept at most."""
        return min(self._num_wanted, len(frames))

    def is_exact(self, num_frames: int) -> bool:
        """Say whether no two times fall on one frame, as random ones may, and close ones."""
        return not self._sampling.jitter and 2 * int(self._sampling.value) <= num_frames

    def guess(self, *, num_frames: int, seconds: float) -> int:
        """Return about how many are kept where no rate is known."""
        return min(self._num_wanted, num_frames or self._num_wanted)

    def most(self, *, num_frames: int, seconds: float) -> int:
        """Return how many are kept at most, which is known without a header."""
        return min(self._num_wanted, with_slack(num_frames) or self._num_wanted)
