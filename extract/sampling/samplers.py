"""Which decoded frames are kept, decided from presentation timestamps in exact integers.

``fps`` F keeps, for k = 0, 1, …, the first frame with pts >= first pts + k/F, with half a tick of
tolerance because containers round timestamps to ticks; no frame is kept twice. ``stride`` N keeps
every N-th decoded frame. The origin is the first frame shown to the sampler. ``count`` and
``segments`` keep, for each of their times (see `segments`), the first frame with pts >= that time,
with the same tolerance, and the last frame where none is as late.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

from extract.sampling.segments import Extent, wanted_times
from features_store.spec import Sampling


class StrideSampler:
    """Keep every `stride`-th frame, from the first.

    >>> sampler = StrideSampler(3)
    >>> [sampler.keep(pts) for pts in range(5)]
    [True, False, False, True, False]
    """

    def __init__(self, stride: int) -> None:
        if stride < 1:
            raise ValueError(f"stride must be at least 1, got {stride}")
        self._stride = stride
        self._num_seen = 0

    def keep(self, pts: int) -> bool:
        """Say whether the next frame in presentation order is kept; its `pts` plays no part."""
        is_kept = self._num_seen % self._stride == 0
        self._num_seen += 1
        return is_kept


class FpsSampler:
    """Keep `fps` frames a second of a clock that ticks every `time_base` seconds.

    >>> sampler = FpsSampler(Fraction(10), time_base=Fraction(1, 25))
    >>> [pts for pts in range(8) if sampler.keep(pts)]
    [0, 2, 5, 7]
    """

    def __init__(self, fps: Fraction, *, time_base: Fraction) -> None:
        if fps <= 0 or time_base <= 0:
            raise ValueError(f"fps and time base must be positive, got {fps} and {time_base}")
        self._targets_per_tick = fps * time_base
        self._first_pts: int | None = None
        self._next_target = 0

    def keep(self, pts: int) -> bool:
        """Say whether the next frame in presentation order, shown at `pts` ticks, is kept."""
        if self._first_pts is None:
            self._first_pts = pts
        # Target k is reached when first + k/F - half a tick <= pts, so k <= F * (ticks + 1/2).
        rate = self._targets_per_tick
        half_ticks = 2 * (pts - self._first_pts) + 1
        reached = rate.numerator * half_ticks // (2 * rate.denominator)
        if reached < self._next_target:
            return False
        self._next_target = reached + 1
        return True


class TimesSampler:
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


FrameSampler = StrideSampler | FpsSampler | TimesSampler


def make_sampler(
    sampling: Sampling, *, time_base: Fraction, extent: Extent | None = None, draw_key: str = ""
) -> FrameSampler:
    """Return a fresh sampler for one video whose timestamps count `time_base` seconds.

    Args:
        extent: of the video; needed by ``count`` and ``segments``.
        draw_key: that random draws depend on, beside their seed.
    """
    if sampling.is_sparse:
        assert extent is not None, "a fixed number of frames needs the first and the last time"
        return TimesSampler(wanted_times(sampling, extent, draw_key=draw_key))
    if sampling.kind == "stride":
        return StrideSampler(int(sampling.value))
    return FpsSampler(Fraction(sampling.value), time_base=time_base)


def max_kept_frames(
    sampling: Sampling, *, duration_seconds: float, num_frames_hint: int, source_fps: float
) -> int:
    """Return how many frames a video keeps at most, judged by its header; for pre-sizing.

    Headers round, so every estimate gets the slack that the truncation check allows: 2 % and two
    frames. 0 means that the header says nothing.

    >>> fps10 = Sampling("fps", "10")
    >>> max_kept_frames(fps10, duration_seconds=2.0, num_frames_hint=50, source_fps=25.0)
    23
    """
    num_frames = max(num_frames_hint, math.ceil(duration_seconds * source_fps))
    if sampling.is_sparse:
        most = (1 + sampling.jitter) * int(sampling.value)
        return min(most, num_frames + num_frames // 50 + 2) if num_frames else most
    if sampling.kind == "stride":
        kept = -(-num_frames // int(sampling.value))
    else:
        in_time = math.ceil(duration_seconds * Fraction(sampling.value)) + 1
        kept = min(in_time, num_frames) if num_frames and duration_seconds else num_frames
        kept = kept or (in_time if duration_seconds else 0)
    return kept + kept // 50 + 2 if kept else 0
