"""Open an untrusted video file and choose its stream, without decoding.

Every failure is a `DecodeError`. FFmpeg gets the descriptor of a regular file and no protocol but
that one, so a playlist dressed up as a video can neither fetch a URL nor read another file.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from extract.video.picture_folders import PICTURE_SUFFIXES, video_of_pictures
from features_store.errors import DecodeError

MAX_FRAME_SIDE = 16384  # a larger side is a decompression bomb, not a video
_FROM_ZERO = ("matroska", "nut", "asf")  # whose durations are when the last frame ends


def open_video(path: str | Path) -> InputContainer:
    """Open a local regular file for reading; the caller closes it.

    Raises:
        DecodeError: ``unreadable``, ``not a video``, ``out of memory``, or ``truncated`` for an MP4
            without its index.
    """
    with open_file(path) as descriptor:  # FFmpeg has its own duplicate
        return open_untrusted(path, descriptor)


@contextmanager
def open_file(path: str | Path) -> Iterator[int]:
    """Give the descriptor of a local regular file; `DecodeError` if it is none."""
    try:
        # Without O_NONBLOCK a named pipe would block here for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        message = f"cannot open {str(path)!r}: {err.strerror}"
        raise DecodeError(message, reason="unreadable") from err
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise DecodeError(_folder_error(path), reason="not a video")
        if not stat.S_ISREG(mode):
            message = f"cannot open {str(path)!r}: it is not a regular file"
            raise DecodeError(message, reason="unreadable")
        yield descriptor
    finally:
        os.close(descriptor)


def open_untrusted(path: str | Path, descriptor: int) -> InputContainer:
    """Open an open file as a video; `DecodeError` says what is wrong with it."""
    try:
        container = open_descriptor(descriptor)
    except av.FFmpegError as err:
        raise _opening_error(path, descriptor, err) from err
    if container.format.name.endswith("_pipe"):  # jpeg_pipe, png_pipe, …, whatever the suffix
        container.close()
        what = f"it is a still picture ({container.format.name})"
        if _is_animated_webp(descriptor):
            what = "it is an animated WebP, which FFmpeg does not decode; convert it to MP4 or GIF"
        raise DecodeError(f"{str(path)!r} is not a video: {what}", reason="not a video")
    return container


def _folder_error(path: str | Path) -> str:
    """Say of a folder that it is none, and of one of pictures what would be a video."""
    with suppress(OSError):
        names = [p.name for p in Path(path).iterdir() if p.suffix.lower() in PICTURE_SUFFIXES]
        if names:
            advice = video_of_pictures(str(path), names)
            return f"{str(path)!r} is a folder of {len(names)} pictures, not a video: {advice}"
    return f"{str(path)!r} is a folder, not a video"


def _is_animated_webp(descriptor: int) -> bool:
    """Whether a file is a WebP whose header says that it moves."""
    head = os.pread(descriptor, 21, 0)
    is_extended = (head[:4], head[8:16]) == (b"RIFF", b"WEBPVP8X")
    return is_extended and len(head) == 21 and bool(head[20] & 0x02)


def open_descriptor(descriptor: int, hwaccel: HWAccel | None = None) -> InputContainer:
    """Have FFmpeg open what a descriptor is of; `FFmpegError` is the caller's to explain."""
    options = {"fd": str(descriptor), "protocol_whitelist": "fd"}
    return av.open("fd:", mode="r", options=options, metadata_errors="replace", hwaccel=hwaccel)


def _opening_error(path: str | Path, descriptor: int, err: av.FFmpegError) -> DecodeError:
    """Tell a missing MP4 index, a failing disk and a file of another kind apart."""
    size = os.fstat(descriptor).st_size
    if err.errno == errno.EIO:
        return DecodeError(f"cannot read {str(path)!r}: {err.strerror}", reason="unreadable")
    if err.errno == errno.ENOMEM:
        message = f"{str(path)!r} asks for more memory than its decoder may have"
        return DecodeError(message, reason="out of memory")
    if os.pread(descriptor, 8, 0)[4:] == b"ftyp":
        return DecodeError(
            f"{str(path)!r} begins as an MP4 but has no usable index (moov box) in its {size} "
            "bytes; copy or download it again",
            reason="truncated",
        )
    what = "it is empty" if size == 0 else err.strerror
    return DecodeError(f"{str(path)!r} is not a video: {what}", reason="not a video")


def choose_stream(container: InputContainer, *, path: str | Path) -> VideoStream:
    """Return the default (FFmpeg: best) video stream, set to decode in this thread alone.

    Raises:
        DecodeError: ``no video stream`` (cover pictures of music are none), ``unknown codec`` or
            ``size limit``.
    """
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or Disposition.attached_pic in stream.disposition:
        names = ", ".join(f"{each.type} {codec_name(each)}" for each in container.streams)
        message = f"cannot decode {str(path)!r}: no video stream (streams: {names or 'none'})"
        raise DecodeError(message, reason="no video stream")
    if codec_name(stream) == "unknown":
        message = f"cannot decode {str(path)!r}: FFmpeg has no decoder for its video stream"
        raise DecodeError(message, reason="unknown codec")
    if max(stream.codec_context.width, stream.codec_context.height) > MAX_FRAME_SIDE:
        size = f"{stream.codec_context.width}x{stream.codec_context.height}"
        message = f"{str(path)!r} has frames of {size}; at most {MAX_FRAME_SIDE} a side are decoded"
        raise DecodeError(message, reason="size limit")
    # Threads inside FFmpeg deadlock beside torch; parallel work is in processes.
    stream.codec_context.thread_count = 1
    stream.codec_context.thread_type = "NONE"
    return stream


def codec_name(stream: Stream) -> str:
    """Return FFmpeg's name of the codec of a stream, ``unknown`` where it has no decoder."""
    context: CodecContext | None = stream.codec_context  # None when FFmpeg has no such decoder
    return "unknown" if context is None else context.name


def stream_rate(stream: VideoStream) -> Fraction | None:
    """Return the average frames per second, or FFmpeg's guess; None when there is neither."""
    average, guessed = stream.average_rate, stream.guessed_rate
    # Where no frame has a duration, FFmpeg's average is one frame a tick.
    if average and guessed and stream.time_base and average * stream.time_base == 1:
        return min(average, guessed)
    return average or guessed or stream.base_rate or None


def stream_seconds(container: InputContainer, stream: VideoStream) -> float:
    """Return how long the header promises that the stream is shown, 0 when it is silent."""
    tagged = tagged_end(stream)
    if tagged is not None:
        end = tagged
    elif stream.duration is not None and stream.time_base is not None:
        end = float(stream.duration * stream.time_base)
    else:
        end = (container.duration or 0) / av.time_base
    return max(0.0, end - counted_from(container, stream))


def tagged_end(stream: VideoStream) -> float | None:
    """Return when Matroska says that this stream ends; None where it does not."""
    stamp = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = (float(part) for part in stamp)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def counted_from(container: InputContainer, stream: VideoStream) -> float:
    """Return the time of the stream's start if its header counts from time zero; else 0."""
    if not container.format.name.startswith(_FROM_ZERO) or not stream.time_base:
        return 0.0
    return max(0.0, float((stream.start_time or 0) * stream.time_base))


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Return the width of a pixel by its height; 1 where the file does not say."""
    return stream.sample_aspect_ratio or Fraction(1)
