"""What a decode pool and its workers tell each other, in both directions.

Nothing is pickled, so neither side can be made to run code by the other; and a decoder that a
hostile video has taken over can say nothing but this.
"""

import json
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, get_args

from extract.decode.settings import DecodeSettings
from extract.video.header import VideoHeader
from extract.video.reader import VideoSummary
from features_store.plain import PlainError, from_plain, to_plain


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


def send(connection: Connection, message: ToWorker | FromWorker) -> None:
    """Send one message; `OSError` when the other side is gone."""
    connection.send_bytes(json.dumps([type(message).__name__, to_plain(message)]).encode())


def receive(connection: Connection, kinds: Any) -> Any:
    """Wait for one message.

    Args:
        kinds: the union of those that may come, `ToWorker` or `FromWorker`.

    Raises:
        EOFError, OSError: the other side is gone.
        PlainError: it is none of these.
    """
    content = connection.recv_bytes()
    try:
        name, document = from_plain(tuple[str, Any], json.loads(content))
    except (ValueError, RecursionError) as err:
        raise PlainError(f"a message cannot be read: {err}") from err
    named = {kind.__name__: kind for kind in get_args(kinds)}
    if name not in named:
        raise PlainError(f"a message is {name!r}, expected {' or '.join(named)}")
    return from_plain(named[name], document)
