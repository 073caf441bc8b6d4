"""NVDEC, the video decoder of NVIDIA's GPUs, by way of FFmpeg; never mixed with one on the CPU.

It gives NV12 pictures where the CPU's decoder gives planar ones, so scaled frames may differ in
their last bit: which of the two decoded is part of a spec. It does not tell of damage within a
frame, as the CPU's decoder does. What it cannot decode fails; AV1 is of that kind, because FFmpeg
takes a decoder for it that knows no hardware.
"""

from functools import cache
from pathlib import Path

import av
from av import Codec
from av.codec.hwaccel import HWAccel

from features_store.errors import MachineError


def nvdec(device: int) -> HWAccel:
    """Return what `av.open` decodes with on the GPU of that number; frames come to the host."""
    _keep_context(device)
    return _accel(device)


def _accel(device: int) -> HWAccel:
    return HWAccel(
        "cuda",
        device=str(device),
        # A stream that NVDEC cannot decode is to fail, not to be decoded on the CPU.
        allow_software_fallback=False,
        options={"primary_ctx": "1"},
    )


@cache
def _keep_context(device: int) -> HWAccel:
    """Hold the process's context on a GPU; made anew for each file it takes half a second."""
    return _accel(device).create(Codec("h264", "r"))


def require_nvdec(device: int, clip: Path) -> None:
    """Raise `MachineError` where NVDEC does not decode a clip that is known to be sound."""
    try:
        with av.open(str(clip), hwaccel=nvdec(device)) as container:
            frame = next(container.decode(video=0), None)
    except (av.FFmpegError, RuntimeError) as err:
        raise MachineError(
            f"NVDEC of GPU {device} cannot be used here ({err}); take --decoder cpu"
        ) from err
    if frame is None:
        raise MachineError(f"NVDEC of GPU {device} gives no frame; take --decoder cpu")
