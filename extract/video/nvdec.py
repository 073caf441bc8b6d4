"""NVDEC, the video decoder of NVIDIA's GPUs, by way of FFmpeg; never mixed with one on the CPU.

It gives NV12 pictures where the CPU's decoder gives planar ones, so scaled frames may differ in
their last bit: which of the two decoded is part of a spec. It does not tell of damage within a
frame, as the CPU's decoder does. What it cannot decode fails; AV1 is of that kind, because FFmpeg
takes a decoder for it that knows no hardware.
"""

import errno
from functools import cache
from pathlib import Path

import av
from av import Codec
from av.codec.hwaccel import HWAccel

from features_store.errors import MachineError


def nvdec(device: int) -> HWAccel:
    """Return what `av.open` decodes with on the GPU of that number; frames come to the host.

    Raises:
        FFmpegError: the GPU cannot be used.
    """
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


def require_nvdec(device: int, clip: Path) -> None:
    """Raise `MachineError` where NVDEC does not decode a clip that is known to be sound."""
    try:
        with av.open(str(clip), hwaccel=nvdec(device)) as container:
            frame = next(container.decode(video=0), None)
    except (av.FFmpegError, RuntimeError) as err:
        raise MachineError(
            f"NVDEC of GPU {device} cannot be used here ({err}); take `decoder` cpu"
        ) from err
    if frame is None:
        raise MachineError(f"NVDEC of GPU {device} gives no frame; take `decoder` cpu")
