"""What the header of a video promises, read without decoding; nothing of it is checked."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from extract.video.container import choose_stream, open_video, stream_rate, stream_seconds
from extract.video.packets import is_flush, is_hidden
from features_store.errors import DecodeError

# Their index lists every frame; that of others lists keyframes, or what was read so far.
_INDEXED = ("mov", "avi")


@dataclass(frozen=True)
class VideoHeader:
    """What the header promises; nothing is decoded and nothing is checked.

    Attributes:
        width, height: of the decoded frame, before any rotation for display; 0 when unknown.
        rate: average frames per second, 0 when unknown.
        time_base: seconds that a timestamp counts, 0 when unknown.
        duration_seconds: 0 when unknown.
        num_frames: that are shown; 0 when the container does not count them.
        is_even: whether frames follow each other at `rate`, as far as the header tells.
        codec: FFmpeg's name of it; empty when unknown.
    """

    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    duration_seconds: float
    num_frames: int
    is_even: bool
    codec: str

    @property
    def fps(self) -> float:
        """Average frames per second, 0 when unknown."""
        return float(self.rate)


def probe(path: str | Path) -> VideoHeader:
    """Read a video's header; a stream with neither a count nor a duration has its packets counted.

    Raises:
        DecodeError: as `open_video` and `choose_stream`, or ``corrupt`` while packets are counted.
    """
    with open_video(path) as container:
        stream = choose_stream(container, path=path)
        timing = _index_timing(container, stream)
        rate = stream_rate(stream) or Fraction(0)
        num_frames, rate, is_even = timing or (stream.frames, rate, True)
        duration = stream_seconds(container, stream)
        if not num_frames and not duration:
            num_frames = _count_packets(container, stream, path)
        return VideoHeader(
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            rate=rate,
            time_base=stream.time_base or Fraction(0),
            duration_seconds=duration,
            num_frames=num_frames,
            is_even=is_even,
            codec=stream.codec_context.name,
        )


def _index_timing(
    container: InputContainer, stream: VideoStream
) -> tuple[int, Fraction, bool] | None:
    """Return the number of frames, their rate and whether they come evenly, if an index says so.

    The rate is the stream's own where its frames follow it, else their mean.
    """
    is_indexed = container.format.name.startswith(_INDEXED)
    if not is_indexed or not stream.frames or not stream.time_base:
        return None  # a fragmented MP4 counts nothing, and has read the index of its beginning
    # An MP4's count is of what was recorded; its index is of what the edit list left.
    shown = [e.timestamp for e in stream.index_entries if e.size and not e.is_discard]
    rate = stream_rate(stream)
    if len(shown) < 2 or not rate or shown[-1] <= shown[0]:
        return None
    steps = {after - before for before, after in pairwise(shown)}
    mean = Fraction(len(shown) - 1, shown[-1] - shown[0]) / stream.time_base
    # Timestamps are rounded to ticks, so steps of an even stream are off by less than one.
    for each in (rate, mean):
        step = 1 / (each * stream.time_base)
        if all(abs(found - step) < 1 for found in steps):
            return len(shown), each, True
    return len(shown), mean, False


def _count_packets(container: InputContainer, stream: VideoStream, path: str | Path) -> int:
    try:
        packets = (packet for packet in container.demux(stream) if not is_flush(packet))
        return sum(not is_hidden(packet) for packet in packets)
    except av.FFmpegError as err:
        message = f"{str(path)!r} broke off while its packets were counted: {err.strerror}"
        raise DecodeError(message, reason="corrupt") from err
