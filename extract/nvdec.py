"""NVDEC, the video decoder of NVIDIA's GPUs, by way of FFmpeg; never mixed with one on the CPU.

It gives NV12 pictures where the CPU's decoder gives planar ones, so scaled frames may differ in
their last bit: which of the two decoded is part of a spec. What NVDEC cannot decode fails.
"""

import av
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel

from features_store.errors import MachineError


def nvdec(device: int) -> HWAccel:
    """Return what `av.open` decodes with on the GPU of that number; frames come to the host."""
    # A stream that NVDEC cannot decode is to fail, not to be decoded on the CPU.
    return HWAccel("cuda", device=str(device), allow_software_fallback=False)


def require_nvdec(device: int) -> None:
    """Raise `MachineError` where NVDEC cannot decode the commonest of codecs."""
    try:
        context = CodecContext.create("h264", "r", hwaccel=nvdec(device))
    except (av.FFmpegError, NotImplementedError) as err:
        raise MachineError(
            f"NVDEC of GPU {device} cannot be used here ({err}); take --decoder cpu"
        ) from err
    if not context.is_hwaccel:
        raise MachineError("this PyAV was built without NVDEC; take --decoder cpu")
