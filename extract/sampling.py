"""Which decoded frames are kept, decided from presentation timestamps in exact integers.

``fps`` F keeps, for k = 0, 1, …, the first frame with pts >= first pts + k/F, with half a tick of
tolerance because containers round timestamps to ticks; no frame is kept twice. ``stride`` N keeps
every N-th decoded frame. The origin is the first frame shown to the sampler.
"""

import math
from fractions import Fraction

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


FrameSampler = StrideSampler | FpsSampler


def make_sampler(sampling: Sampling, *, time_base: Fraction) -> FrameSampler:
    """Return a fresh sampler for one video whose timestamps count `time_base` seconds."""
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
    if sampling.kind == "stride":
        kept = -(-num_frames // int(sampling.value))
    else:
        in_time = math.ceil(duration_seconds * Fraction(sampling.value)) + 1
        kept = min(in_time, num_frames) if num_frames and duration_seconds else num_frames
        kept = kept or (in_time if duration_seconds else 0)
    return kept + kept // 50 + 2 if kept else 0
