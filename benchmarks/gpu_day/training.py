"""Step 6: clips a second of every head, on cubes that lie on the device, one run after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.gpu_day.clock import rate
from benchmarks.gpu_day.machine import copy_rate, matmul_rate
from benchmarks.gpu_day.step import Row, Setting, run_step
from extract.backbones.tail import load_tail
from extract.compute.compiled import first_line
from train.data.batch import Batch, InputShape
from train.fitting.config import TrainConfig
from train.fitting.state import candidates, make_optimiser, training_loss
from train.fitting.tasks import SINGLE_LABEL
from train.heads import Head, build_head, head_class, list_heads

STEPS, CLASSES = 16, 51
TAIL_BACKBONE, TAIL_LAYER = "caffe:googlenet", "inception_5a"


def rows(setting: Setting) -> Iterator[Row]:
    started = time.monotonic()
    device = setting.device
    side, num_bytes, seconds = (128, 2**18, 0.02) if setting.is_small else (8192, 2**30, 0.3)
    flop_rate = matmul_rate(device, torch.float32, side=side, seconds=seconds)
    byte_rate = copy_rate(device, num_bytes=num_bytes, seconds=seconds)
    names = list_heads()[:2] if setting.is_small else list_heads()
    for name in names:
        if time.monotonic() - started > setting.seconds:
            return
        for batch_size in (4,) if setting.is_small else (32, 256):
            row: Row = {"head": name, "batch": batch_size}
            try:
                yield row | measure(name, batch_size, setting, flop_rate, byte_rate)
            except Exception as err:
                yield row | {"note": first_line(err)[:200]}
            torch.cuda.empty_cache()


def measure(
    name: str, batch_size: int, setting: Setting, flop_rate: float, byte_rate: float
) -> Row:
    """Return the rate of whole training steps: gather, cast, forward, backward, Adam."""
    device = setting.device
    torch.manual_seed(0)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    head = build(name, setting).to(device)
    num_clips = 2 * batch_size
    cubes = resident(head.shape, num_clips, device)
    diffs = torch.randn(num_clips, STEPS, 14, 14, 3, device=device).half()
    mask = torch.ones(batch_size, STEPS, dtype=torch.bool, device=device)
    targets = torch.randint(0, CLASSES, (batch_size,), device=device)
    config = TrainConfig()
    optimiser = make_optimiser(head, candidates(type(head), config)[0], config)

    def batch_of(index: Tensor) -> Batch:
        floats = {layer: block[index].float() for layer, block in cubes.items()}
        return Batch(floats, diffs[index].float(), mask)

    index = torch.randperm(num_clips, device=device)[:batch_size]
    head.prepare([batch_of(index)])
    head.train()

    def step() -> None:
        loss = training_loss(head, batch_of(index), targets, None, SINGLE_LABEL)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()

    operations = None if setting.is_small else flops(step)
    times = rate(step, device, seconds=0.05 if setting.is_small else 1.0)
    num_bytes = sum(block[0].nbytes for block in cubes.values()) * batch_size
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {
        "clips/s": round(times * batch_size),
        "by bytes": round(byte_rate / num_bytes * batch_size),
        "by operations": operations and round(flop_rate / operations * batch_size),
        "peak GiB": None if peak is None else round(peak, 2),
    }


def flops(step: Callable[[], None]) -> float | None:
    """Return the operations of a step; None for a head whose hooks torch's counter cannot bear."""
    from torch.utils.flop_counter import FlopCounterMode  # imports for seconds

    try:
        with FlopCounterMode(display=False) as counter:
            step()
    except AssertionError:
        return None
    return float(counter.get_total_flops()) or None


def build(name: str, setting: Setting) -> Head:
    grid, dim = (2, 8) if setting.is_small else (7, 1024)
    layers = {"top": (grid, dim)}
    if name == "pyramid-attention":
        layers = {"low": (grid, 480), "middle": (grid, 832), **layers}
    tail = None
    if head_class(name).takes_tail:
        layers = {TAIL_LAYER: (7, 832)}
        tail = load_tail(TAIL_BACKBONE, TAIL_LAYER, trained=False).module
    shape = InputShape(layers, diff_grid=14)
    options = {} if tail is None else {"tail": tail}
    return build_head(name, shape=shape, num_classes=CLASSES, **options)


def resident(shape: InputShape, num_clips: int, device: torch.device) -> dict[str, Tensor]:
    """Return cubes as behind a ReLU, in float16."""
    return {
        layer: torch.randn(num_clips, STEPS, grid, grid, dim, device=device).relu().half()
        for layer, (grid, dim) in shape.layers.items()
    }


if __name__ == "__main__":
    run_step(rows)
