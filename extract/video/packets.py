"""From packets to decoded frames, and the judgement whether all of the stream was there.

A stream is whole when its packets are sound, its decoder never fails after the first frame, and
it gives about as many frames (or seconds) as its header promises. Headers are allowed to be off by
2 % and two frames.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import av
from av import VideoFrame
from av.container import InputContainer
from av.packet import Packet as AnyPacket
from av.video.stream import VideoStream

from extract.video.clock import FrameClock
from extract.video.container import stream_seconds, tagged_end
from features_store.errors import DecodeError

Packet: TypeAlias = "AnyPacket[VideoStream]"


@dataclass
class Tally:
    """What became of a stream's packets so far.

    Attributes:
        num_frames: decoded.
        num_hidden: packets that show no frame: empty, or cut off by an edit list.
        num_errors: packets refused before the first frame, as when a recording starts in the
            middle of a group of pictures.
        has_sound_frame: whether a frame came that the decoder did not have to patch.
    """

    num_frames: int = 0
    num_hidden: int = 0
    num_errors: int = 0
    has_sound_frame: bool = False


def is_flush(packet: Packet) -> bool:
    """Say whether `packet` is the one with which PyAV ends a stream."""
    return packet.size == 0 and packet.dts is None


def is_hidden(packet: Packet) -> bool:
    """Say whether `packet` shows no frame of its own."""
    return packet.is_discard or packet.size == 0


def decode_frames(
    container: InputContainer,
    stream: VideoStream,
    *,
    num_skipped: int,
    tally: Tally,
    decode: Callable[[Packet], Sequence[VideoFrame]],
    on_packet: Callable[[], None],
    on_sent: Callable[[int | None], None],
) -> Iterator[VideoFrame]:
    """Yield the frames of `stream` in presentation order, from packet `num_skipped` on.

    Args:
        decode: turns a packet into the frames that are there after it.
        on_sent: called with the time of each packet that is to be shown, before it is decoded.

    Raises:
        DecodeError: ``truncated`` or ``corrupt``.
    """
    packets = container.demux(stream)
    for ordinal, packet in enumerate(packets):
        on_packet()
        if ordinal < num_skipped:
            continue
        if is_flush(packet):
            yield from _decode(packet, tally, decode)
            return
        tally.num_hidden += is_hidden(packet)
        if packet.is_corrupt:
            # FFmpeg flags the short last packet of a file that was cut off, and damaged ones.
            is_last = is_flush(next(packets))
            raise DecodeError(
                f"packet {ordinal} is {'cut short' if is_last else 'damaged'}, after "
                f"{_of_promised(tally.num_frames, promised_frames(container, stream))}",
                reason="truncated" if is_last else "corrupt",
            )
        if packet.size:  # sending an empty packet would end the decoder
            if not is_hidden(packet):
                on_sent(packet.pts)
            yield from _decode(packet, tally, decode)


def _decode(
    packet: Packet, tally: Tally, decode: Callable[[Packet], Sequence[VideoFrame]]
) -> Iterator[VideoFrame]:
    """Decode one packet; an error counts only once there was a frame."""
    try:
        frames = decode(packet)
    except av.InvalidDataError as err:
        if tally.num_frames:
            raise _corrupt(tally, str(err.strerror)) from err
        tally.num_errors += 1
        return
    for frame in frames:
        assert isinstance(frame, VideoFrame)
        if frame.is_corrupt and tally.has_sound_frame:
            raise _corrupt(tally, "parts of a frame are missing")
        tally.has_sound_frame |= not frame.is_corrupt
        tally.num_frames += 1
        yield frame


def _corrupt(tally: Tally, what: str) -> DecodeError:
    message = f"the decoder failed after {tally.num_frames} frames: {what}"
    return DecodeError(message, reason="corrupt")


def promised_frames(container: InputContainer, stream: VideoStream) -> int:
    """Return how many frames the header promises, 0 when it does not say."""
    # An MP4's count is of what was recorded; its index is of what the edit list left.
    if container.format.name.startswith("mov") and len(stream.index_entries) > 0:
        return min(stream.frames, len(stream.index_entries))
    return stream.frames


def promised_seconds(container: InputContainer, stream: VideoStream) -> float:
    """Return how long the header says that frames are shown, 0 where audio may be what lasts."""
    alone = len(container.streams) == 1
    if tagged_end(stream) is None and not alone:
        return 0.0
    return stream_seconds(container, stream)


def check_frames(
    container: InputContainer, stream: VideoStream, *, tally: Tally, clock: FrameClock[VideoFrame]
) -> None:
    """Raise `DecodeError` when no frame came, or clearly fewer than promised."""
    promised = promised_frames(container, stream)
    num_frames = tally.num_frames + tally.num_hidden
    if container.format.name == "avi":  # it counts ticks, also those in which nothing changes
        num_frames = max(num_frames, clock.num_moments)
    if num_frames < 0.98 * promised - 2:
        message = f"the video is cut off: {_of_promised(tally.num_frames, promised)}"
        raise DecodeError(message, reason="truncated")
    if tally.num_frames == 0 and tally.num_errors:
        message = f"none of {tally.num_errors} packets could be decoded"
        raise DecodeError(message, reason="corrupt")
    if tally.num_frames == 0:
        raise DecodeError("the video stream holds no frames", reason="no frames")


def check_seconds(
    container: InputContainer, stream: VideoStream, *, clock: FrameClock[VideoFrame]
) -> None:
    """Raise `DecodeError` when a stream that counts no frames ends clearly before its time."""
    # Videos of variable rate may end on a long frame.
    slack = 2 * max(Fraction(clock.longest_gap), clock.ticks_per_frame) * clock.time_base
    # Since the stream's start, not since the first frame that could be decoded: a recording may
    # begin in the middle of a group of pictures. Live recordings count from when they were live.
    is_live = container.format.name == "flv"
    start = 0 if is_live else (stream.start_time or 0)
    since = min(start, clock.first_pts if clock.first_pts is not None else start)
    last_seconds = float((clock.last_pts - since) * clock.time_base)
    promised = promised_seconds(container, stream)
    if not stream.frames and last_seconds < 0.98 * promised - float(slack):
        raise DecodeError(
            f"the video is cut off: its last frame comes {last_seconds:.2f} s after its start, of "
            f"{promised:.2f} s",
            reason="truncated",
        )


def _of_promised(num_frames: int, promised: int) -> str:
    return f"decoded {num_frames} of {promised or 'an unknown number of'} frames"
