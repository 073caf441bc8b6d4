"""What a decode pool and its workers tell each other, in both directions."""

from dataclasses import dataclass

from extract.decode.settings import DecodeSettings
from extract.video.header import VideoHeader
from extract.video.reader import VideoSummary


@dataclass(frozen=True)
class DecodeTask:
    """One video to decode; `index` is the caller's and comes back with every event.

    Attributes:
        is_probe: read the header, decode nothing.
        draw_key: that random draws of frames depend on; see `FrameReader`.
    """

    index: int
    path: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    is_probe: bool = False
    draw_key: str = ""


@dataclass(frozen=True)
class Credits:
    """So many slots of the ring may be written again."""

    count: int


@dataclass(frozen=True)
class Ready:
    """The worker waits for tasks."""


@dataclass(frozen=True)
class Decoded:
    """Times and indices of frames that lie in the next slots of the ring."""

    pts_seconds: tuple[float, ...]
    frame_index: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.pts_seconds) != len(self.frame_index):
            raise ValueError(f"{len(self.pts_seconds)} times of {len(self.frame_index)} frames")


@dataclass(frozen=True)
class Probed:
    """The header that a task asked for."""

    header: VideoHeader


@dataclass(frozen=True)
class Ended:
    """A video is complete, or ends here for a reason; `summary` is of the frames before, if any."""

    summary: VideoSummary | None
    reason: str = ""
    message: str = ""


ToWorker = DecodeSettings | DecodeTask | Credits
FromWorker = Ready | Decoded | Probed | Ended
