"""How many frames a row of a source will keep, by its header alone."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import NamedTuple

from extract.sampling.nominal import NominalTiming
from extract.sampling.policy import SamplingPolicy, policy_of
from extract.video.header import VideoHeader
from extract.video.spans import span_ticks
from features_store.spec import Sampling

# Where a header does not say how finely timestamps count; common in MPEG.
_FINE = Fraction(1, 90_000)


class FrameCount(NamedTuple):
    """Frames of one row.

    Attributes:
        kept: that extraction will write.
        decoded: of which they are chosen.
        is_counted: whether the header counts them; else it only tells a duration, or frames do not
            come evenly, and both numbers are estimates.
        most: for how many there is to be room, because headers round; see `SamplingPolicy.most`.
    """

    kept: int
    decoded: int
    is_counted: bool
    most: int


# Decoding a video without a header will fail in the same way and be reported.
NO_HEADER = FrameCount(kept=0, decoded=0, is_counted=True, most=1)


def count_frames(
    header: VideoHeader, sampling: Sampling, start: float | None, end: float | None
) -> FrameCount:
    """Return the frames of a video, or of a time span of it in seconds after its first frame."""
    num_frames = header.num_frames or round(header.duration_seconds * header.rate)
    is_whole = not start and end is None
    policy = policy_of(sampling)
    most = _most_frames(header, policy, start or 0.0, end)
    # Every n-th frame of a whole video does not depend on when they are shown.
    is_timeless = is_whole and not policy.goes_by_time
    if not header.rate:
        lasts = header.duration_seconds if end is None else min(end, header.duration_seconds or end)
        seconds = max(lasts - (start or 0.0), 0.0)
        kept = policy.guess(num_frames=header.num_frames, seconds=seconds)
        is_counted = header.num_frames > 0 and is_timeless
        return FrameCount(kept, max(header.num_frames, kept), is_counted, most)
    timing = NominalTiming(num_frames, header.rate, header.time_base or _FINE)
    frames = frames_between(timing, start_seconds=start, end_seconds=end)
    is_timed = header.is_even or is_timeless
    is_counted = header.num_frames > 0 and is_timed and policy.is_exact(len(frames))
    return FrameCount(policy.count(timing, frames), len(frames), is_counted, most)


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


def _most_frames(
    header: VideoHeader, policy: SamplingPolicy, start: float, end: float | None
) -> int:
    seconds, num_frames = header.duration_seconds, header.num_frames
    if end is not None:
        seconds, num_frames = min(end, seconds or end) - start, 0
    num_frames = max(num_frames, ceil(seconds * header.fps))
    return max(1, policy.most(num_frames=num_frames, seconds=seconds))
