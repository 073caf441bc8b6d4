"""When the frames of a fixed number are wanted: evenly spaced, or one of each of equal segments.

Pure arithmetic on timestamps. Times are in ticks, exact; a frame is kept that is the first at or
after one (see `sampling`).
"""

import hashlib
from fractions import Fraction
from typing import NamedTuple

from features_store.spec import Sampling


class Extent(NamedTuple):
    """From the first to the last frame of a video, or of its span.

    Attributes:
        first_pts, last_pts: in ticks.
        num_frames: with a time of their own.
    """

    first_pts: int = 0
    last_pts: int = 0
    num_frames: int = 0

    @property
    def interval(self) -> Fraction:
        """Mean ticks from frame to frame; 0 for a single frame."""
        return Fraction(self.last_pts - self.first_pts, max(1, self.num_frames - 1))


def wanted_times(sampling: Sampling, extent: Extent, *, draw_key: str) -> list[list[Fraction]]:
    """Return R draws of S times each, in ticks; the first is that of the centres.

    >>> second = Extent(0, 24, 25)
    >>> [[int(t) for t in draw] for draw in
    ...  wanted_times(Sampling.parse(count=4), second, draw_key="v")]
    [[0, 8, 16, 24]]
    """
    if sampling.kind == "count":
        return [_evenly(extent, int(sampling.value))]
    num_segments, half = int(sampling.value), Fraction(1, 2)
    centres = [_in_segment(extent, s, half, num_segments) for s in range(num_segments)]
    # Half a tick later, which undoes the tolerance: times that fall on frames need it, not these,
    # and where ticks are frames it would favour the first one.
    return [centres] + [
        [
            _in_segment(extent, s, drawn_share(sampling.seed, draw_key, r, s), num_segments) + half
            for s in range(num_segments)
        ]
        for r in range(1, sampling.jitter + 1)
    ]


def drawn_share(seed: int, draw_key: str, draw: int, segment: int) -> Fraction:
    """Return a number in (0, 1], the same on every machine, in any order and after any resume.

    >>> float(drawn_share(0, "v.mp4", 1, 0))
    0.7272164209145395
    """
    text = f"{seed}\n{draw}\n{segment}\n{draw_key}"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return Fraction(number + 1, 2**64)


def _evenly(extent: Extent, count: int) -> list[Fraction]:
    """Return times from the first frame to the last; the middle for one alone."""
    if count == 1:
        return [Fraction(extent.first_pts + extent.last_pts, 2)]
    step = Fraction(extent.last_pts - extent.first_pts, count - 1)
    return [extent.first_pts + k * step for k in range(count)]


def _in_segment(extent: Extent, segment: int, share: Fraction, num_segments: int) -> Fraction:
    """Return the time that lies at a share of a segment.

    Frames last as long as they do on average, so the video is an interval longer than from its
    first frame to its last. The frame shown at a time began up to an interval before it.
    """
    moment = (segment + share) / num_segments * extent.num_frames
    return extent.first_pts + (moment - 1) * extent.interval
