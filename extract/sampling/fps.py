"""``fps`` F keeps, for k = 0, 1, …, the first frame with pts >= first pts + k/F.

With half a tick of tolerance, because containers round timestamps to ticks; no frame is kept twice.
All is decided in exact integers. The origin is the first frame shown to the sampler.
"""

import math
from fractions import Fraction

import numpy as np

from extract.sampling.nominal import NominalTiming
from extract.sampling.policy import FrameSampler, SamplingPolicy, Timeline, with_slack
from features_store.spec import Sampling

# Beyond this, targets that pass between two frames are not looked for one by one.
MAX_STEPS = 1_000_000


class FpsSampler(FrameSampler):
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


class Policy(SamplingPolicy):
    """So many frames a second."""

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        self._fps = Fraction(sampling.value)

    def sampler(self, timeline: Timeline) -> FpsSampler:
        """Return a fresh sampler for one video."""
        return FpsSampler(self._fps, time_base=timeline.time_base)

    def count(self, timing: NominalTiming, frames: range) -> int:
        """Return how many of some consecutive frames are kept.

        >>> timing = NominalTiming(50, Fraction(25), Fraction(1, 12800))
        >>> Policy(Sampling("fps", "10")).count(timing, range(50))
        20
        """
        if not frames:
            return 0
        # Targets that pass from one frame to the next; rounding to ticks moves frames by up to one.
        per_tick = self._fps * timing.time_base
        passing = self._fps / timing.rate
        jitter = per_tick if timing.ticks_per_frame.denominator > 1 else Fraction(0)
        if passing - jitter >= 1:
            return len(frames)
        reached = per_tick * (timing.tick(frames[-1]) - timing.tick(frames[0]) + Fraction(1, 2))
        if passing + jitter <= 1 or len(frames) > MAX_STEPS:
            return min(math.floor(reached) + 1, len(frames))
        return _count_steps(timing, frames, per_tick)

    def guess(self, *, num_frames: int, seconds: float) -> int:
        """Return about how many are kept where no rate is known."""
        in_time = math.ceil(seconds * self._fps)
        return min(in_time, num_frames or in_time)

    def most(self, *, num_frames: int, seconds: float) -> int:
        """Return how many are kept at most.

        >>> Policy(Sampling("fps", "10")).most(num_frames=50, seconds=2.0)
        23
        """
        in_time = math.ceil(seconds * self._fps) + 1 if seconds else 0
        return with_slack(min(in_time or num_frames, num_frames or in_time))


def _count_steps(timing: NominalTiming, frames: range, per_tick: Fraction) -> int:
    """Count the frames at which another target is reached, as `FpsSampler` decides it."""
    step = timing.ticks_per_frame
    # Python's own integers where 64 bits may not hold the products.
    largest = 2 * frames.stop * step.numerator * max(1, per_tick.numerator)
    dtype = np.int64 if largest < 2**62 else object
    number = np.arange(frames.start, frames.stop).astype(dtype)
    ticks = (2 * number * step.numerator + step.denominator) // (2 * step.denominator)
    half_ticks = 2 * (ticks - ticks[0]) + 1
    reached = per_tick.numerator * half_ticks // (2 * per_tick.denominator)
    return 1 + int(np.count_nonzero(reached[1:] > reached[:-1]))
