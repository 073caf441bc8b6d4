"""Cubes of real frames in bf16 and compiled against eager fp32, and of a batch of 1 against 64.

    uv run python benchmarks/extract_precision.py SOURCE --weights FILE [--frames N]

The worst per-frame cosine of every backbone's top layer, on frames of evenly chosen videos. FILE
holds the weights of `caffe:googlenet`; EfficientNet-lite0 takes those of the demo's package. The
others are seeded: random weights as they are, and with batch norms fitted to the frames, without
which their cubes hardly differ. A CPU without bf16 units gives the same numbers, slowly.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from extract.backbones import Backbone, load_backbone
from extract.backbones.registry import load_network
from extract.compute.computer import CubeComputer
from extract.compute.precision import MIN_COSINE
from extract.compute.preprocess import Normalise, preprocessing_for
from extract.video.reader import FrameReader
from extract.video.settings import ReaderSettings
from features_store.spec import Preprocessing, Sampling
from features_store.verbs.diff import frame_cosines
from pipelines.extraction.sources import read_source
from pipelines.recipes.demo import convert_weights

SEEDED = ("torchvision:googlenet", "torchvision:resnet50", "timm:vit_small_patch16_224")
LITE = "timm:tf_efficientnet_lite0"
LARGE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="of caffe:googlenet")
    parser.add_argument("--frames", type=int, default=64)
    arguments = parser.parse_args()
    print(f"worst cosine over {arguments.frames} frames; bf16 needs {MIN_COSINE}\n")
    columns = ("backbone", "bf16", "bf16, compiled", "fp32, compiled", "bf16, batch norms fitted")
    print(f"| {' | '.join(columns)} | batch of 1 to {LARGE}, fp32 |")
    print("|---" * 6 + "|")
    for backbone in backbones(arguments.weights):
        preprocessing = preprocessing_for(backbone.config, fit="crop")
        pixels = real_frames(arguments.source, preprocessing, count=arguments.frames)
        as_it_is, fitted = reduced(backbone, preprocessing, pixels), ""
        compiled = [f"{value:.6f}" for value in compiled_cosines(backbone, preprocessing, pixels)]
        if backbone.name in SEEDED and fit_batch_norms(backbone, preprocessing, pixels):
            fitted = f"{reduced(backbone, preprocessing, pixels):.6f}"
        print(f"| {backbone.name} | {as_it_is:.6f} | {' | '.join(compiled)} | {fitted} "
              f"| {alone(backbone, preprocessing, pixels):.7f} |", flush=True)  # fmt: skip


def backbones(weights: Path) -> list[Backbone]:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        convert_weights(Path(folder) / "lite0.safetensors")
        lite = load_backbone(LITE, weights=Path(folder) / "lite0.safetensors")
    caffe = load_backbone("caffe:googlenet", weights=weights)
    return [caffe, *(Backbone(name, load_network(name, trained=False)) for name in SEEDED), lite]


def real_frames(source: Path, preprocessing: Preprocessing, *, count: int) -> torch.Tensor:
    """Return the middle frames (n, H, W, 3) of evenly chosen videos."""
    videos = read_source(source)
    frames = []
    for i in range(count):
        path = videos.path(videos.rows[i * len(videos.rows) // count])
        settings = ReaderSettings(preprocessing=preprocessing, sampling=Sampling("stride", "1"))
        reader = FrameReader(path, settings)
        frames.append(next(itertools.islice(reader, 10, None)).pixels)
    return torch.from_numpy(np.stack(frames))


@torch.no_grad()
def fit_batch_norms(backbone: Backbone, preprocessing: Preprocessing, pixels: torch.Tensor) -> bool:
    """Give batch norms the statistics of the frames; return whether there are any."""
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
        norm.train()
    backbone.network(Normalise(preprocessing)(pixels[:32]))
    backbone.eval()
    return bool(norms)


def reduced(backbone: Backbone, preprocessing: Preprocessing, pixels: torch.Tensor) -> float:
    """Return the worst cosine of bf16 to fp32 cubes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    computer = CubeComputer(backbone, preprocessing, device=device, batch_size=16)
    return worst(computer, computer.with_precision("bf16"), pixels)


def compiled_cosines(
    backbone: Backbone, preprocessing: Preprocessing, pixels: torch.Tensor
) -> list[float]:
    """Return the worst cosines of compiled bf16 and compiled fp32 to fp32 cubes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    computer = CubeComputer(backbone, preprocessing, device=device, batch_size=16)
    return [
        worst(computer, computer.with_precision(precision).compiled(), pixels)
        for precision in ("bf16", "fp32")
    ]


def alone(backbone: Backbone, preprocessing: Preprocessing, pixels: torch.Tensor) -> float:
    """Return the worst cosine of cubes that were computed alone to those of a large batch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    one, many = (
        CubeComputer(backbone, preprocessing, device=device, batch_size=n) for n in (1, LARGE)
    )
    return worst(one, many, pixels)


def worst(first: CubeComputer, second: CubeComputer, pixels: torch.Tensor) -> float:
    (layer,) = first(pixels[:1]).cubes
    return float(frame_cosines(first(pixels).cubes[layer], second(pixels).cubes[layer]).min())


if __name__ == "__main__":
    main()
