"""``count`` N keeps N frames, evenly spaced in time from the first to the last."""

from fractions import Fraction

from extract.sampling.policy import Extent
from extract.sampling.times import TimesPolicy


class Policy(TimesPolicy):
    """So many frames of each video.

    >>> from features_store.spec import Sampling
    >>> (draw,) = Policy(Sampling.parse(count=4)).wanted_times(Extent(0, 24, 25), "v")
    >>> [int(time) for time in draw]
    [0, 8, 16, 24]
    """

    def wanted_times(self, extent: Extent, draw_key: str) -> list[list[Fraction]]:
        """Return times from the first frame to the last; the middle for one alone."""
        count = int(self._sampling.value)
        if count == 1:
            return [[Fraction(extent.first_pts + extent.last_pts, 2)]]
        step = Fraction(extent.last_pts - extent.first_pts, count - 1)
        return [[extent.first_pts + k * step for k in range(count)]]
