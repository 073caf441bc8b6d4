"""NVDEC, the video decoder of NVIDIA's GPUs, by way of FFmpeg; never mixed with one on the CPU.

It gives NV12 pictures where the CPU's decoder gives planar ones, so scaled frames may differ in
their last bit: which of the two decoded is part of a spec. It does not tell of damage within a
frame, as the CPU's decoder does. What it cannot decode fails; AV1 is of that kind, because FFmpeg
takes a decoder for it that knows no hardware.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import av
from av import Codec
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.stream import VideoStream

from extract.video.container import (
    choose_stream,
    codec_name,
    open_descriptor,
    open_file,
    open_untrusted,
)
from extract.video.decoders import cpu
from features_store.errors import DecodeError, MachineError

_NO_FRAME = ("truncated", "corrupt", "no frames")  # reasons for which none may have come


class Decoder(cpu.Decoder):
    """Decodes on one GPU; frames come to the host."""

    max_bytes = 32 * 2**30  # its driver maps gigabytes of its own

    def require(self, clip: Path) -> None:
        """Raise `MachineError` where NVDEC does not decode a clip that is known to be sound."""
        try:
            with av.open(str(clip), hwaccel=_nvdec(self._device)) as container:
                frame = next(container.decode(video=0), None)
        except (av.FFmpegError, RuntimeError) as err:
            raise MachineError(
                f"NVDEC of GPU {self._device} cannot be used here ({err}); take `decoder` cpu"
            ) from err
        if frame is None:
            raise MachineError(f"NVDEC of GPU {self._device} gives no frame; take `decoder` cpu")

    @contextmanager
    def open(self, path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
        """Open a video; `DecodeError` is also ``unknown codec`` or ``decoder crashed``."""
        with open_file(path) as descriptor:
            with open_untrusted(path, descriptor) as container:
                codec = codec_name(choose_stream(container, path=path))
            # What is wrong with the file itself is known by now.
            os.lseek(descriptor, 0, os.SEEK_SET)
            try:
                container = open_descriptor(descriptor, _nvdec(self._device))
            except av.FFmpegError as err:
                message = f"NVDEC cannot begin with {str(path)!r}: {err.strerror}"
                raise DecodeError(message, reason="decoder crashed") from err
            except RuntimeError:  # PyAV's, where no stream of the file can be decoded by it
                raise _not_for_nvdec(path, codec) from None
        with container:
            stream = choose_stream(container, path=path)
            if not stream.codec_context.is_hwaccel:
                raise _not_for_nvdec(path, codec)
            yield container, stream

    def explain(self, err: DecodeError) -> None:
        """Raise ``decoder crashed`` where the CPU may yet read the file."""
        if err.reason in _NO_FRAME:
            message = f"NVDEC gave no frame: {err}; `decoder` cpu may read it"
            raise DecodeError(message, reason="decoder crashed") from err


def _not_for_nvdec(path: str | Path, codec: str) -> DecodeError:
    message = f"FFmpeg cannot decode {codec}, of {str(path)!r}, on a GPU; take `decoder` cpu"
    return DecodeError(message, reason="unknown codec")


def _nvdec(device: int) -> HWAccel:
    """Return what `av.open` decodes with on the GPU of that number; `FFmpegError` if it cannot."""
    return _accel(device, _context_options(device))


def _accel(device: int, options: dict[str, object]) -> HWAccel:
    # A stream that NVDEC cannot decode is to fail, not to be decoded on the CPU.
    return HWAccel("cuda", device=str(device), allow_software_fallback=False, options=options)


@cache
def _context_options(device: int) -> dict[str, object]:
    """Have all files share this process's context on a GPU; to make one takes as long as a clip.

    Where torch holds that context, FFmpeg does not take it, and each file has its own after all.
    """
    options: dict[str, object] = {"primary_ctx": "1"}
    try:
        _held.append(_accel(device, options).create(Codec("h264", "r")))
    except av.FFmpegError as err:
        if err.errno != errno.ENOTSUP:
            raise
        return {}
    return options


_held: list[HWAccel] = []  # a context ends with whoever holds it last
