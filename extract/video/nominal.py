"""How many frames a video keeps, from what its header says of their number and rate. Pure.

Frame i is taken to be shown at i / rate, rounded to a tick, and kept as
`extract.sampling.samplers` decides: so a count is exact where frames do follow each other at that
rate.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from extract.video.spans import span_ticks
from features_store.spec import Sampling

# Beyond this, targets that pass between two frames are not looked for one by one.
MAX_STEPS = 1_000_000


@dataclass(frozen=True)
class NominalTiming:
    """Frames that follow each other at one rate.

    Attributes:
        rate: frames per second.
        time_base: seconds that a timestamp counts.
    """

    num_frames: int
    rate: Fraction
    time_base: Fraction

    @property
    def ticks_per_frame(self) -> Fraction:
        """Between two frames, before rounding."""
        return 1 / (self.rate * self.time_base)

    def tick(self, frame: int) -> int:
        """Return when a frame is shown, in ticks after the first."""
        return math.floor(frame * self.ticks_per_frame + Fraction(1, 2))

    def first_at(self, tick: int) -> int:
        """Return the first frame shown at `tick` or later; `num_frames` if there is none.

        >>> NominalTiming(50, Fraction(25), Fraction(1, 1000)).first_at(100)
        3
        """
        # tick(i) >= t exactly when i * ticks_per_frame + 1/2 >= t.
        frame = math.ceil((tick - Fraction(1, 2)) / self.ticks_per_frame)
        return min(max(frame, 0), self.num_frames)


def frames_between(
    timing: NominalTiming, *, start_seconds: float | None, end_seconds: float | None
) -> range:
    """Return the frames of a time span, as `extract.video.reader.FrameReader` finds them.

    >>> timing = NominalTiming(50, Fraction(25), Fraction(1, 1000))
    >>> frames_between(timing, start_seconds=0.4, end_seconds=1.0)
    range(10, 25)
    """
    first, stop = 0, timing.num_frames
    if start_seconds:
        first = timing.first_at(span_ticks(start_seconds, time_base=timing.time_base))
    if end_seconds is not None:
        stop = timing.first_at(span_ticks(end_seconds, time_base=timing.time_base))
    return range(first, max(first, stop))


def count_kept(sampling: Sampling, timing: NominalTiming, frames: range) -> int:
    """Return how many of some consecutive frames are kept.

    >>> timing = NominalTiming(50, Fraction(25), Fraction(1, 12800))
    >>> count_kept(Sampling("fps", "10"), timing, range(50))
    20
    """
    if not frames:
        return 0
    if sampling.is_sparse:  # at most; random draws may fall on the same frame
        return min((1 + sampling.jitter) * int(sampling.value), len(frames))
    if sampling.kind == "stride":
        return -(-len(frames) // int(sampling.value))
    # Targets that pass from one frame to the next; rounding to ticks moves frames by up to one.
    fps = Fraction(sampling.value)
    passing = fps / timing.rate
    jitter = fps * timing.time_base if timing.ticks_per_frame.denominator > 1 else Fraction(0)
    if passing - jitter >= 1:
        return len(frames)
    per_tick = fps * timing.time_base
    reached = per_tick * (timing.tick(frames[-1]) - timing.tick(frames[0]) + Fraction(1, 2))
    if passing + jitter <= 1 or len(frames) > MAX_STEPS:
        return min(math.floor(reached) + 1, len(frames))
    return _count_steps(timing, frames, per_tick)


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
