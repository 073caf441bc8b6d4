"""How many frames a row of a source will keep, by its header alone."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import NamedTuple

from extract.sampling.samplers import max_kept_frames
from extract.video.header import VideoHeader
from extract.video.nominal import NominalTiming, count_kept, frames_between
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
        most: for how many there is to be room, because headers round; see `max_kept_frames`.
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
    most = _most_frames(header, sampling, start, end)
    num_frames = header.num_frames or round(header.duration_seconds * header.rate)
    is_whole = not start and end is None
    if not header.rate:
        return FrameCount(*_without_rate(header, sampling, start or 0.0, end), most)
    timing = NominalTiming(num_frames, header.rate, header.time_base or _FINE)
    frames = frames_between(timing, start_seconds=start, end_seconds=end)
    # Every n-th frame of a whole video does not depend on when they are shown.
    is_timed = header.is_even or (sampling.kind == "stride" and is_whole)
    # Where nearly every frame is wanted, two wanted times may fall on one.
    is_dense = sampling.is_sparse and 2 * int(sampling.value) > len(frames)
    is_counted = header.num_frames > 0 and is_timed and not (sampling.jitter or is_dense)
    return FrameCount(count_kept(sampling, timing, frames), len(frames), is_counted, most)


def _without_rate(
    header: VideoHeader, sampling: Sampling, start: float, end: float | None
) -> tuple[int, int, bool]:
    """Count where no rate is known: nothing but every n-th frame of a whole video is certain."""
    is_whole = not start and end is None
    if sampling.kind == "stride":
        kept = -(-header.num_frames // int(sampling.value))
        return kept, header.num_frames, is_whole and header.num_frames > 0
    if sampling.is_sparse:
        kept = (1 + sampling.jitter) * int(sampling.value)
        return min(kept, header.num_frames or kept), max(header.num_frames, kept), False
    lasts = header.duration_seconds if end is None else min(end, header.duration_seconds or end)
    in_time = ceil(max(lasts - start, 0.0) * Fraction(sampling.value))
    kept = min(in_time, header.num_frames or in_time)
    return kept, max(header.num_frames, kept), False


def _most_frames(
    header: VideoHeader, sampling: Sampling, start: float | None, end: float | None
) -> int:
    duration, num_frames = header.duration_seconds, header.num_frames
    if end is not None:
        duration, num_frames = min(end, duration or end) - (start or 0), 0
    kept = max_kept_frames(
        sampling, duration_seconds=duration, num_frames_hint=num_frames, source_fps=header.fps
    )
    return max(1, kept)
