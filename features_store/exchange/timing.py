"""When a row of features is: from frame rate and stride to times, and back. Pure arithmetic.

Temporal detectors place row t of a video in the middle of the frames behind it: ActionFormer at
(t × feat_stride + num_frames / 2) / fps seconds, OpenTAD at (t × feature_stride + offset_frames) /
fps with offset_frames = num_frames / 2. A store's time is when a frame begins to be shown, which is
half a frame before its middle. So row t gets

    pts_seconds = (t × feat_stride + (num_frames - 1) / 2) / fps

the mean of the times of its frames, and that of the frame itself when it comes from one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from features_store.errors import UsageError
from features_store.format.records import VideoRecord
from features_store.manifest import ManifestRow
from features_store.spec import Sampling, Spec

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Timing:
    """How the rows of a video lie in time.

    Attributes:
        fps: frames a second of the frames that the other two count.
        feat_stride: frames from one row to the next.
        feat_num_frames: frames behind a row; 1 for a network that sees pictures.
    """

    fps: float
    feat_stride: float
    feat_num_frames: int = 1

    def __post_init__(self) -> None:
        for name in ("fps", "feat_stride", "feat_num_frames"):
            value = getattr(self, name)
            if not 2**-53 < value < 2**53:
                raise UsageError(f"{name} must be positive and no more than 2**53, got {value}")

    def frame_positions(self, start: int, stop: int) -> np.ndarray:
        """Return where rows lie (stop - start,), in frames."""
        return np.arange(start, stop) * self.feat_stride + (self.feat_num_frames - 1) / 2


def timing_from(
    fps: float | None, feat_stride: float | None, feat_num_frames: int | None
) -> Timing | None:
    """Return the timing that was told, None for none; half a timing is refused."""
    if fps is None and feat_stride is None and feat_num_frames is None:
        return None
    if fps is None or feat_stride is None:
        raise UsageError(
            f"times need both fps and feat_stride, got fps {fps} and feat_stride {feat_stride}; "
            "give `fps` and `feat_stride`, or neither when the times are unknown"
        )
    return Timing(fps, feat_stride, 1 if feat_num_frames is None else feat_num_frames)


def row_times(timing: Timing | None, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pts_seconds and frame_index of rows; where nothing is known, both count rows.

    >>> row_times(Timing(30, 4, 16), 0, 3)[0].round(3).tolist()
    [0.25, 0.383, 0.517]
    """
    if timing is None:
        return np.arange(start, stop, dtype=np.float64), np.arange(start, stop)
    positions = timing.frame_positions(start, stop)
    if not max(positions[-1], positions[-1] / timing.fps) < 2**53:
        raise UsageError(f"row {stop - 1} would be at no time that can be: {timing}")
    return positions / timing.fps, np.floor(positions).astype(np.int64)


def number_text(value: float) -> str:
    """Return the shortest text that reads back the same.

    >>> number_text(4.0), number_text(12.5)
    ('4', '12.5')
    """
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def sampling_of(timings: set[Timing | None]) -> Sampling:
    """Return the sampling of imported videos: their stride, if all have one and the same."""
    strides = {UNKNOWN if t is None else number_text(t.feat_stride) for t in timings}
    return Sampling("stride", strides.pop() if len(strides) == 1 else UNKNOWN)


def stored_timing(
    spec: Spec, record: VideoRecord, row: ManifestRow, pts_seconds: np.ndarray
) -> Timing | None:
    """Return how a stored video's rows lie in time; None when they are not regular or not known.

    Under sampling by fps the frames that are counted are the kept ones, so that one stride holds
    for videos of all frame rates but those that are slower. What is said must agree with
    `pts_seconds`, else the rate is measured.
    """
    said = said_timing(spec, record, row)
    if said is None or _is_regular(said, record, pts_seconds):
        return said
    seconds = float(pts_seconds[-1] - pts_seconds[0])
    if not 0 < seconds < math.inf:
        return None
    rate = said.feat_stride * (len(pts_seconds) - 1) / seconds
    measured = replace(said, fps=rate)
    return measured if _is_regular(measured, record, pts_seconds) else None


def said_timing(spec: Spec, record: VideoRecord, row: ManifestRow) -> Timing | None:
    """Return how the rows should lie in time, as the store says; None when it does not know."""
    if "feat_stride" in row.extra:  # said by an import, per video
        stride, behind = row.extra["feat_stride"], row.extra.get("feat_num_frames", "1")
    elif spec.sampling.kind == "fps":
        rate = float(Fraction(spec.sampling.value))
        return Timing(record.source_fps if 0 < record.source_fps < rate else rate, 1)
    else:
        stride, behind = spec.sampling.value, "1"
    try:
        return Timing(record.source_fps, float(stride), int(behind))
    except (ValueError, UsageError):
        return None


def _is_regular(timing: Timing, record: VideoRecord, pts_seconds: np.ndarray) -> bool:
    """Whether rows lie on the grid, from the first on, less than a frame of the video away."""
    row_seconds = timing.feat_stride / timing.fps
    away = np.abs(pts_seconds - pts_seconds[0] - np.arange(len(pts_seconds)) * row_seconds)
    frame_seconds = 1 / record.source_fps if record.source_fps > 0 else math.inf
    return bool(away.max() < 0.99 * min(row_seconds, frame_seconds))
