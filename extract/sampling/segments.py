"""``segments`` N keeps the frame at the centre of each of N equal segments; drawn ones besides."""

import hashlib
from fractions import Fraction

from extract.sampling.policy import Extent
from extract.sampling.times import TimesPolicy


class Policy(TimesPolicy):
    """One frame of each segment, and of each random draw another."""

    def wanted_times(self, extent: Extent, draw_key: str) -> list[list[Fraction]]:
        """Return R draws of S times each, in ticks; the first is that of the centres."""
        num_segments, seed, half = int(self._sampling.value), self._sampling.seed, Fraction(1, 2)
        centres = [_in_segment(extent, s, half, num_segments) for s in range(num_segments)]
        # Half a tick later, which undoes the tolerance: times that fall on frames need it, not
        # these, and where ticks are frames it would favour the first one.
        return [centres] + [
            [
                _in_segment(extent, s, drawn_share(seed, draw_key, r, s), num_segments) + half
                for s in range(num_segments)
            ]
            for r in range(1, self._sampling.jitter + 1)
        ]


def drawn_share(seed: int, draw_key: str, draw: int, segment: int) -> Fraction:
    """Return a number in (0, 1], the same on every machine, in any order and after any resume.

    >>> float(drawn_share(0, "v.mp4", 1, 0))
    0.7272164209145395
    """
    text = f"{seed}\n{draw}\n{segment}\n{draw_key}"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return Fraction(number + 1, 2**64)


def _in_segment(extent: Extent, segment: int, share: Fraction, num_segments: int) -> Fraction:
    """Return the time that lies at a share of a segment.

    Frames last as long as they do on average, so the video is an interval longer than from its
    first frame to its last. The frame shown at a time began up to an interval before it.
    """
    moment = (segment + share) / num_segments * extent.num_frames
    return extent.first_pts + (moment - 1) * extent.interval
