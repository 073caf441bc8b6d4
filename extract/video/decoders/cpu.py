"""FFmpeg on the CPU, in one thread; others are subclasses that do some of it in another way."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from av import VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream

from extract.video.container import choose_stream, open_video
from extract.video.packets import Packet
from features_store.errors import DecodeError


class Decoder:
    """Decodes one video; a reader makes one for each.

    Args:
        device: number of the GPU, for those that use one.

    Attributes:
        max_bytes: of memory that a process may take that decodes so.
    """

    # 8K video takes about 1 GB, headers that lie ask for any number.
    max_bytes = 4 * 2**30

    def __init__(self, device: int) -> None:
        self._device = device

    def require(self, clip: Path) -> None:
        """Raise `MachineError` where this machine cannot decode so; the clip is sound."""

    @contextmanager
    def open(self, path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
        """Open a video, and close it at the end.

        Raises:
            DecodeError: as `open_video` and `choose_stream`; what is wrong with the file itself
                first, and as they say it.
        """
        with open_video(path) as container:
            yield container, choose_stream(container, path=path)

    def decode(self, packet: Packet) -> Sequence[VideoFrame]:
        """Return the frames that are there after one more packet, in the order of being shown.

        Raises:
            InvalidDataError: the packet is damaged.
        """
        return packet.decode()

    def explain(self, err: DecodeError) -> None:
        """Raise another error for one after which not a frame came, if the file is not at fault."""
