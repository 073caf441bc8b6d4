"""3×3 convolutions by Winograd against torch's own: a training step of one layer, on one core.

    uv run python -m benchmarks.conv3x3 [--pairs 5]

The shapes are those of `saliency-convlstm` on GoogLeNet's cubes (7×7×1024, clips of 16 frames,
batch 32): the first convolution of its mask, the second, that of the ConvLSTM's input for all
frames, and that of its hidden state at one step. Both run on the same numbers, in turn; *floor* is
torch's number of operations at the rate of a large matrix product, which Winograd may pass.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor, nn

from pipelines.measure.bench import matmul_gflops
from train.heads.blocks import conv3x3

GRID, FRAMES, CLIPS = 7, 512, 32
SHAPES = [  # maps, channels in and out
    ("mask, first", FRAMES, 1024, 128),
    ("mask, second", FRAMES, 128, 64),
    ("ConvLSTM, input", FRAMES, 1024, 256),
    ("ConvLSTM, state", CLIPS, 64, 256),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    conv3x3.WIDE = 0  # few channels too, which a head leaves to torch
    rate = matmul_gflops(torch.device("cpu"), torch.float32) * 1e9
    print("| layer | floor, ms | torch, ms | ours, ms | torch / ours |\n|---|---|---|---|---|")
    for name, num_maps, dim_in, dim_out in SHAPES:
        theirs = nn.Conv2d(dim_in, dim_out, 3, padding=1)
        ours = conv3x3.Conv3x3(dim_in, dim_out)
        ours.load_state_dict(theirs.state_dict())
        # As cubes lie in memory: channels last.
        maps = torch.randn(num_maps, GRID, GRID, dim_in).permute(0, 3, 1, 2)
        pairs = [(step(theirs, maps), step(ours, maps)) for _ in range(arguments.pairs)]
        before, now = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = sorted(theirs / ours for theirs, ours in pairs)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        operations = 3 * 2 * 9 * num_maps * GRID**2 * dim_in * dim_out
        print(f"| {name} | {1e3 * operations / rate:.0f} | {before:.0f} | {now:.0f} | {spread} |")


def step(layer: nn.Module, maps: Tensor) -> float:
    """Return the seconds of a forward and a backward pass, with gradients of maps and weights."""
    inputs = maps.detach().requires_grad_()
    started = time.perf_counter()
    layer(inputs).square().sum().backward()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
