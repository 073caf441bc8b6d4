"""Which rows of a video make a clip: pure index arithmetic.

A clip is T rows of one video. A video shorter than a clip gives one clip of all its rows, which the
loader pads and masks; no clip crosses a video boundary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features_store.errors import UsageError
from train.data.kinds import FrameOrder, WindowKind


@dataclass(frozen=True)
class WindowPlan:
    """How a video is cut into clips.

    Attributes:
        kind: ``even`` gives one clip of evenly spaced frames, ``sliding`` as many as fit, ``draws``
            one for each draw that the store has of a video's frames.
        num_steps: T, frames of a clip.
        frame_stride: take every n-th row within a sliding clip.
        window_stride: rows by which a sliding clip moves on.
    """

    kind: WindowKind = "even"
    num_steps: int = 16
    frame_stride: int = 1
    window_stride: int = 1

    def __post_init__(self) -> None:
        for name in ("num_steps", "frame_stride", "window_stride"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")

    def rows(self, num_frames: int, draws: Sequence[Sequence[int]] = ()) -> list[np.ndarray]:
        """Return the rows of every clip of a video, each at most `num_steps` long."""
        if self.kind == "draws":
            return [np.array(draw, np.int64) for draw in draws]
        if self.kind == "even":
            return [even_rows(num_frames, self.num_steps)]
        return sliding_rows(
            num_frames,
            num_steps=self.num_steps,
            frame_stride=self.frame_stride,
            window_stride=self.window_stride,
        )


def even_rows(num_frames: int, num_steps: int) -> np.ndarray:
    """Return the centres of `num_steps` equal segments; every row of a shorter video.

    >>> even_rows(10, 4).tolist(), even_rows(3, 4).tolist()
    ([1, 3, 6, 8], [0, 1, 2])
    """
    if num_frames <= num_steps:
        return np.arange(num_frames)
    return ((2 * np.arange(num_steps) + 1) * num_frames) // (2 * num_steps)


def sliding_rows(
    num_frames: int, *, num_steps: int, frame_stride: int, window_stride: int
) -> list[np.ndarray]:
    """Return clips that start every `window_stride` rows , max(1, F − T·stride + 1) of them at 1.

    >>> [rows.tolist() for rows in
    ...  sliding_rows(7, num_steps=2, frame_stride=3, window_stride=1)]
    [[0, 3], [1, 4]]
    """
    # start : start + T·stride : stride, as in the loader that Sharma et al. released.
    span = num_steps * frame_stride
    starts = range(0, max(1, num_frames - span + 1), window_stride)
    return [np.arange(start, min(start + span, num_frames), frame_stride) for start in starts]


def reordered(rows: np.ndarray, order: FrameOrder, rng: np.random.Generator) -> np.ndarray:
    """Return the rows of a clip in another order.

    >>> reordered(np.arange(3), "reversed", np.random.default_rng(0)).tolist()
    [2, 1, 0]
    """
    if order == "shuffled":
        return rng.permutation(rows)
    return rows[::-1] if order == "reversed" else rows
