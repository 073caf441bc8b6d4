"""``stride`` N keeps every N-th decoded frame, from the first one shown to the sampler."""

from extract.sampling.nominal import NominalTiming
from extract.sampling.policy import FrameSampler, SamplingPolicy, Timeline, with_slack


class StrideSampler(FrameSampler):
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


class Policy(SamplingPolicy):
    """Every N-th frame."""

    goes_by_time = False

    def sampler(self, timeline: Timeline) -> StrideSampler:
        """Return a fresh sampler for one video."""
        return StrideSampler(int(self._sampling.value))

    def count(self, timing: NominalTiming, frames: range) -> int:
        """Return how many of some consecutive frames are kept."""
        return self.guess(num_frames=len(frames), seconds=0.0)

    def guess(self, *, num_frames: int, seconds: float) -> int:
        """Return how many are kept; the seconds play no part."""
        return -(-num_frames // int(self._sampling.value))

    def most(self, *, num_frames: int, seconds: float) -> int:
        """Return how many are kept at most."""
        return with_slack(self.guess(num_frames=num_frames, seconds=seconds))
