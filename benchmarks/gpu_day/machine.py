"""Step 1: what this machine is, and the rates that everything else is measured against."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.gpu_day.clock import rate
from benchmarks.gpu_day.step import Row, Setting, run_step

PACKAGES = ("torch", "torchvision", "triton", "timm", "av", "h5py", "numpy", "pydantic")


def rows(setting: Setting) -> Iterator[Row]:
    device = setting.device
    for name in PACKAGES:
        try:
            yield {"what": name, "is": version(name)}
        except PackageNotFoundError:
            yield {"what": name, "is": "missing"}
    yield {"what": "python", "is": platform.python_version()}
    yield {"what": "device", "is": describe(device)}
    yield {"what": "cores", "is": len(os.sched_getaffinity(0))}
    side, seconds = (128, 0.02) if setting.is_small else (8192, 0.5)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        rate_now = matmul_rate(device, dtype, side=side, seconds=seconds)
        yield {"what": f"matrix product {name}", "is": f"{rate_now / 1e12:.3g} TFLOP/s"}
    num_bytes = 2**20 if setting.is_small else 2**30
    for name, gigabytes in copies(device, num_bytes, seconds=seconds):
        yield {"what": f"copy {name}", "is": f"{gigabytes:.3g} GB/s"}
    yield {"what": "write + fsync", "is": f"{write_rate(setting.scratch, num_bytes):.3g} GB/s"}


def describe(device: torch.device) -> str:
    if device.type == "cpu":
        return f"cpu, {torch.get_num_threads()} threads"
    properties = torch.cuda.get_device_properties(device)
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return (
        f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, "
        f"{properties.multi_processor_count} multiprocessors, CUDA {torch.version.cuda}, "
        f"driver {driver or 'unknown'}"
    )


def matmul_rate(device: torch.device, dtype: torch.dtype, *, side: int, seconds: float) -> float:
    """Return the operations a second of a square matrix product, TF32 off."""
    a = torch.randn(side, side, device=device).to(dtype)
    b = torch.randn(side, side, device=device).to(dtype)
    return rate(lambda: a @ b, device, seconds=seconds) * 2 * side**3


def copy_rate(device: torch.device, *, num_bytes: int, seconds: float) -> float:
    """Return the bytes a second that memory reads and writes in a copy on the device."""
    source = torch.randint(0, 255, (num_bytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return rate(lambda: target.copy_(source), device, seconds=seconds) * 2 * num_bytes


def copies(device: torch.device, num_bytes: int, *, seconds: float) -> Iterator[tuple[str, float]]:
    yield "in memory", copy_rate(device, num_bytes=num_bytes, seconds=seconds) / 1e9
    if device.type == "cpu":
        return
    on_device = torch.empty(num_bytes // 4, dtype=torch.uint8, device=device)
    for is_pinned in (False, True):
        on_host = torch.ones(num_bytes // 4, dtype=torch.uint8, pin_memory=is_pinned)
        kind = "pinned" if is_pinned else "pageable"
        copy_up = partial(on_device.copy_, on_host, non_blocking=True)
        copy_down = partial(on_host.copy_, on_device, non_blocking=True)
        up = rate(copy_up, device, seconds=seconds)
        down = rate(copy_down, device, seconds=seconds)
        yield f"to the device, {kind}", up * num_bytes / 4e9
        yield f"to the host, {kind}", down * num_bytes / 4e9
    pinning = rate(lambda: torch.empty(2**24, dtype=torch.uint8).pin_memory(), device, seconds=0.1)
    yield "by pin_memory()", pinning * 2**24 / 1e9


def write_rate(folder: Path, num_bytes: int) -> float:
    """Return the gigabytes a second of writing a file and its fsync."""
    data = os.urandom(2**20)
    path = folder / "written"
    started = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(num_bytes // 2**20):
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    path.unlink()
    return num_bytes / seconds / 1e9


if __name__ == "__main__":
    run_step(rows)
