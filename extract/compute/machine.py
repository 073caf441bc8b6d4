"""What this machine computes with, as far as it decides how a network runs."""

import ctypes
import platform
import sys
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # from malloc.h
_KEEP_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Tell glibc to keep up to 1 GiB of freed memory; return False where there is no glibc.

    A batch's feature maps are tens of megabytes each. glibc maps and unmaps every one of them anew,
    and on a CPU touching all those fresh pages costs a third of the time of a GoogLeNet.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Threads have arenas of their own otherwise, of 64 MB pieces that are unmapped when they empty.
    settings = {_M_MMAP_THRESHOLD: _KEEP_BYTES, _M_TRIM_THRESHOLD: _KEEP_BYTES, _M_ARENA_MAX: 1}
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def cpu_flags() -> set[str]:
    """Return the instruction sets of the CPU as Linux names them; empty where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    names = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return set(next(names, "").split())


def has_bf16_units(device: torch.device) -> bool:
    """Whether the device has bf16 units; emulated, bf16 is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def describe_machine(device: torch.device) -> str:
    """Return a text that two machines share only if they can run each other's machine code."""
    parts = [platform.machine(), *sorted(cpu_flags())]
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        parts += [
            properties.name,
            f"{properties.major}.{properties.minor}",
            str(torch.version.cuda),
        ]
    return " ".join(parts)
