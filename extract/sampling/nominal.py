"""When frames are shown, from what a header says of their number and rate.

Frame i is taken to be shown at i / rate, rounded to a tick: so a count is exact where frames do
follow each other at that rate.
"""

import math
from dataclasses import dataclass
from fractions import Fraction


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
