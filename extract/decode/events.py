"""What a decode pool is asked, and the three things that it answers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from extract.decode.process import WorkerProcess
from extract.video.header import VideoHeader
from extract.video.reader import VideoSummary
from features_store.errors import DecodeError


@dataclass(frozen=True)
class DecodeTask:
    """One video to decode; `index` is the caller's and comes back with every event.

    Attributes:
        is_probe: read the header, decode nothing.
        video_id: that random draws of frames depend on.
    """

    index: int
    path: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    is_probe: bool = False
    video_id: str = ""


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
    message: dict[str, Any] = process.messages.popleft()
    if message["kind"] == "frames":
        return Frames(
            task.index,
            process.take_frames(len(message["frame_index"])),
            np.array(message["pts_seconds"], dtype=np.float64),
            np.array(message["frame_index"], dtype=np.int64),
        )
    if message["kind"] == "header":
        return VideoHeader.from_plain(message["header"])
    summary = None
    if message["summary"] is not None:
        rectangle = tuple(message["summary"].pop("crop_rectangle"))
        draws = tuple(map(tuple, message["summary"].pop("draws")))
        summary = VideoSummary(**message["summary"], crop_rectangle=rectangle, draws=draws)
    if message["kind"] == "failed":
        return Failed(
            task.index, DecodeError(message["message"], reason=message["reason"]), summary
        )
    assert summary is not None, "a video without frames is a failure"
    return Finished(task.index, summary)
