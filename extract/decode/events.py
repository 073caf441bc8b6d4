"""The three things that a decode pool answers of a video."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from extract.decode.messages import Decoded, DecodeTask, Probed
from extract.decode.process import WorkerProcess
from extract.video.header import VideoHeader
from extract.video.reader import VideoSummary
from features_store.errors import DecodeError


@dataclass(frozen=True, eq=False)
class Frames:
    """Some kept frames of one video, RGB, as the pool's `PictureStack` says.

    The arrays belong to the receiver.
    """

    index: int
    pixels: UInt8[np.ndarray, "n stacked_h w 3"]
    pts_seconds: Float64[np.ndarray, "n"]
    frame_index: Int64[np.ndarray, "n"]


@dataclass(frozen=True)
class Finished:
    """The video is complete."""

    index: int
    summary: VideoSummary


@dataclass(frozen=True)
class Failed:
    """The video ends here; the frames before are good, and `summary` is of them, if any."""

    index: int
    error: DecodeError
    summary: VideoSummary | None


DecodeEvent = Frames | Finished | Failed


def read_event(task: DecodeTask, *, process: WorkerProcess) -> DecodeEvent | VideoHeader:
    """Turn the oldest message of a worker, which is about `task`, into an event."""
    message = process.messages.popleft()
    if isinstance(message, Probed):
        return message.header
    if isinstance(message, Decoded):
        return Frames(
            task.index,
            process.take_frames(len(message.frame_index)),
            np.array(message.pts_seconds, dtype=np.float64),
            np.array(message.frame_index, dtype=np.int64),
        )
    if message.reason:
        error = DecodeError(message.message, reason=message.reason)
        return Failed(task.index, error, message.summary)
    assert message.summary is not None, "a video without frames is a failure"
    return Finished(task.index, message.summary)
