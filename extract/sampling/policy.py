"""What every kind of sampling decides: which frames are kept, and how many a header promises."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from typing import NamedTuple, cast

from extract.sampling.nominal import NominalTiming
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


class Timeline(NamedTuple):
    """What can be known of a video before its frames come.

    Attributes:
        time_base: seconds that its timestamps count.
        find_extent: reads all its packets.
        draw_key: that random draws depend on, beside their seed.
    """

    time_base: Fraction
    find_extent: Callable[[], Extent]
    draw_key: str = ""


class FrameSampler(ABC):
    """Decides frame by frame, for one video."""

    @abstractmethod
    def keep(self, pts: int) -> bool:
        """Say whether the next frame in presentation order, shown at `pts` ticks, is kept."""

    def keep_last(self) -> bool:
        """Say, when no frame comes any more, whether the latest one, not kept yet, is after all."""
        return False

    @property
    def draws(self) -> tuple[tuple[int, ...], ...]:
        """The rows of every random draw; complete after `keep_last`."""
        return ()


class SamplingPolicy(ABC):
    """One kind of sampling; a file of the kind's name has a subclass named ``Policy``.

    Attributes:
        goes_by_time: whether the times of frames decide how many of a whole video are kept.
    """

    goes_by_time = True

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling

    @abstractmethod
    def sampler(self, timeline: Timeline) -> FrameSampler:
        """Return a fresh sampler for one video."""

    @abstractmethod
    def count(self, timing: NominalTiming, frames: range) -> int:
        """Return how many of some consecutive frames are kept; the range may be beyond memory."""

    def is_exact(self, num_frames: int) -> bool:
        """Say whether `count` is exact for that many frames, where they come as it is told."""
        return True

    @abstractmethod
    def guess(self, *, num_frames: int, seconds: float) -> int:
        """Return about how many are kept where no rate is known; 0 stands for unknown."""

    @abstractmethod
    def most(self, *, num_frames: int, seconds: float) -> int:
        """Return how many are kept at most, with slack for headers, which round.

        0 stands for unknown, and is returned where both are.
        """


def with_slack(num_frames: int) -> int:
    """Return a number of frames and what the truncation check allows: 2 % and two frames."""
    return num_frames + num_frames // 50 + 2 if num_frames else 0


def policy_of(sampling: Sampling) -> SamplingPolicy:
    """Return what a sampling decides by."""
    module = import_module(f"extract.sampling.{sampling.kind}")
    return cast(SamplingPolicy, module.Policy(sampling))
