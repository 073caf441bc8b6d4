"""Step 4: frames a second of each network, every way of running it, beside its roofline."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.gpu_day import networks
from benchmarks.gpu_day.clock import rate
from benchmarks.gpu_day.machine import copy_rate, matmul_rate
from benchmarks.gpu_day.step import Row, Setting, run_step
from extract.compute.compiled import first_line
from extract.compute.computer import ComputedFrames, CubeComputer
from extract.compute.lanes import GPU_LANES, ComputeLanes
from extract.compute.precision import fixed_frames

BATCHES = (32, 128, 512)
COMPILED_BATCH = 128


def rows(setting: Setting) -> Iterator[Row]:
    started = time.monotonic()
    device = setting.device
    side, num_bytes, seconds = (128, 2**18, 0.02) if setting.is_small else (8192, 2**30, 0.3)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    flop_rate = matmul_rate(device, dtype, side=side, seconds=seconds)
    byte_rate = copy_rate(device, num_bytes=num_bytes, seconds=seconds)
    ways: list[Callable[[str, Setting, float, float], Iterator[Row]]] = [eager_rows, our_rows]
    if not setting.is_small:
        ways.append(compiled_rows)
    for way in ways:
        for name in networks.names(setting):
            if time.monotonic() - started > setting.seconds:
                return
            try:
                yield from way(name, setting, flop_rate, byte_rate)
            except Exception as err:  # one that fails says so and costs no other
                yield {"network": name, "run": way.__name__, "note": first_line(err)[:200]}


def eager_rows(name: str, setting: Setting, flop_rate: float, byte_rate: float) -> Iterator[Row]:
    """Yield the network alone on pictures that lie on the device."""
    backbone, _ = networks.load(name, setting)
    for batch in (4,) if setting.is_small else BATCHES:
        pictures = torch.randn(batch, 3, *backbone.config.input_size, device=setting.device)
        baseline = None
        for run, network, inputs in runs(backbone.network, pictures, setting):
            frames = timed(network, inputs, setting)
            baseline = baseline or frames
            floor = batch / networks.least_seconds(
                copy.deepcopy(backbone.network).eval().to(pictures.device, torch.bfloat16),
                pictures.to(torch.bfloat16), flop_rate=flop_rate, byte_rate=byte_rate,
            )  # fmt: skip
            yield figures(name, run, batch, frames, baseline, floor)


def runs(
    network: nn.Module, pictures: Tensor, setting: Setting
) -> Iterator[tuple[str, Callable[[Tensor], object], Tensor]]:
    """Yield name, network and input of each eager way; the plain one first."""
    device, last = pictures.device, torch.channels_last
    torch.backends.cudnn.allow_tf32 = False
    yield "eager fp32 NCHW", copy.deepcopy(network).eval().to(device), pictures
    torch.backends.cudnn.allow_tf32 = True
    yield "eager tf32 NCHW", copy.deepcopy(network).eval().to(device), pictures
    for dtype in (torch.bfloat16, torch.float16):
        if dtype is torch.float16 and setting.is_small:
            continue
        inputs = pictures.to(dtype).to(memory_format=last)
        moved = copy.deepcopy(network).eval().to(device, dtype).to(memory_format=last)
        short = str(dtype).removeprefix("torch.")
        yield f"eager {short} NHWC", moved, inputs
        if dtype is torch.bfloat16 and device.type == "cuda":
            yield f"CUDA graph {short} NHWC", graphed(moved, inputs), inputs


@torch.inference_mode()
def graphed(network: nn.Module, pictures: Tensor) -> Callable[[Tensor], object]:
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            network(pictures)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(pictures)
    return lambda _: graph.replay()


def timed(network: Callable[[Tensor], object], pictures: Tensor, setting: Setting) -> float:
    with torch.inference_mode():
        times = rate(
            lambda: network(pictures), pictures.device, seconds=0.02 if setting.is_small else 0.4
        )
    return times * len(pictures)


def figures(
    name: str, run: str, batch: int, frames: float, baseline: float | None, floor: float | None
) -> Row:
    return {
        "network": name,
        "run": run,
        "batch": batch,
        "frames/s": round(frames),
        "to eager fp32": round(frames / baseline, 2) if baseline else None,
        "of roofline": round(frames / floor, 3) if floor else None,
    }


def our_rows(name: str, setting: Setting, *_: float) -> Iterator[Row]:
    """Yield what the pipeline computes with: uint8 frames on the host to cubes on the host."""
    backbone, _ = networks.load(name, setting)
    for batch in (4,) if setting.is_small else BATCHES[1:]:
        computer = networks.computer_of(
            backbone, setting.device, batch_size=batch,
            precision="fp32" if setting.device.type == "cpu" else "bf16",
        )  # fmt: skip
        frames = host_to_host(computer, seconds=0.05 if setting.is_small else 1.0)
        yield figures(name, "ours, host to host, launched one by one", batch, frames, None, None)
        if setting.device.type == "cuda":
            recorded = computer.cubes_as(torch.float16).recorded(GPU_LANES)
            frames = host_to_host(recorded, seconds=1.0)
            yield figures(name, "ours, host to host", batch, frames, None, None)


def compiled_rows(name: str, setting: Setting, flop_rate: float, byte_rate: float) -> Iterator[Row]:
    """Yield the compiled network, alone and host to host."""
    backbone, _ = networks.load(name, setting)
    batch = COMPILED_BATCH
    computer = networks.computer_of(
        backbone, setting.device, batch_size=batch, precision="bf16"
    ).compiled()
    recorded = computer.cubes_as(torch.float16).recorded(GPU_LANES)
    frames = host_to_host(recorded, seconds=1.0)
    yield figures(name, "ours, host to host, compiled", batch, frames, None, None)
    pictures = torch.randn(
        batch, 3, *backbone.config.input_size, device=setting.device, dtype=torch.bfloat16
    ).to(memory_format=torch.channels_last)
    frames = timed(computer._run, pictures, setting)
    floor = batch / networks.least_seconds(
        computer.network, pictures, flop_rate=flop_rate, byte_rate=byte_rate
    )
    yield figures(name, "compiled bfloat16 NHWC", batch, frames, None, floor)


def host_to_host(computer: CubeComputer, *, seconds: float) -> float:
    """Return frames a second through the lanes of the pipeline."""
    frames = fixed_frames(computer.preprocessing.input_size)
    batch = frames.repeat(-(-computer.batch_size // len(frames)), 1, 1, 1)[: computer.batch_size]
    work = partial(computer, batch)
    with ComputeLanes[None, ComputedFrames](computer.device) as lanes:
        for _ in range(3):  # choose kernels, take memory
            lanes.add(None, work)
        deque(lanes.rest(), maxlen=0)
        started, num_batches = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            lanes.add(None, work)
            num_batches += sum(1 for _ in lanes.ready())
        num_batches += sum(1 for _ in lanes.rest())
        return num_batches * computer.batch_size / (time.perf_counter() - started)


if __name__ == "__main__":
    run_step(rows)
