"""Precision "auto": bf16 where it is faster and agrees with fp32, else fp32."""

from dataclasses import dataclass
from typing import Literal

import torch

from extract.compute.computer import CubeComputer
from extract.compute.machine import has_bf16_units
from features_store.spec import Precision
from features_store.verbs.diff import frame_cosines

MIN_COSINE = 0.999
NUM_FRAMES = 16


@dataclass(frozen=True)
class PrecisionChoice:
    """What was chosen and why, for the log."""

    precision: Precision
    why: str


def choose_precision(
    asked: Literal["fp32", "bf16", "auto"], computer: CubeComputer
) -> PrecisionChoice:
    """Decide the precision; `auto` compares the worst per-frame cosine over fixed frames."""
    if asked != "auto":
        return PrecisionChoice(asked, "as asked")
    if not has_bf16_units(computer.device):
        return PrecisionChoice("fp32", f"this {computer.device.type} has no bf16 units")
    worst = worst_cosine(computer)
    agrees = worst >= MIN_COSINE
    compared = f"worst cosine of bf16 to fp32 {worst:.5f}, {MIN_COSINE} needed"
    return PrecisionChoice("bf16" if agrees else "fp32", compared)


def worst_cosine(computer: CubeComputer) -> float:
    """Return the worst per-frame cosine of bf16 to fp32 cubes over all layers."""
    return compare_computers(*(computer.with_precision(p) for p in ("fp32", "bf16")))


def compare_computers(one: CubeComputer, other: CubeComputer) -> float:
    """Return the worst per-frame cosine of two computers' cubes of fixed frames."""
    pixels = fixed_frames(one.preprocessing.input_size)
    cubes, others = one(pixels).cubes, other(pixels).cubes
    return min(float(frame_cosines(cubes[layer], others[layer]).min()) for layer in cubes)


def fixed_frames(size: tuple[int, int]) -> torch.Tensor:
    """Return seeded frames (16, H, W, 3), uint8: smooth shapes of all scales, as pictures have."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.zeros(NUM_FRAMES, 3, *size)
    for cells in (2, 4, 8, 16, 32, 64):
        noise = torch.randn(NUM_FRAMES, 3, cells, cells, generator=generator)
        frames += (
            torch.nn.functional.interpolate(noise, size=size, mode="bicubic") * 40 / cells**0.5
        )
    return (frames + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
