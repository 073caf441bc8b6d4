"""Set up and run `cubereel bench extract`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path

import torch
from safetensors.torch import save_file

from extract.backbones import load_backbone
from extract.backbones.registry import load_network
from extract.compute.computer import CubeComputer
from extract.decode.settings import DecodeSettings
from features_store.errors import ContractError, DecodeError, UsageError
from pipelines.extraction.extract import extract
from pipelines.extraction.options import ComputeOptions, ExtractionOptions
from pipelines.extraction.request import check_request
from pipelines.extraction.sources import read_source
from pipelines.machine.compiling import choose_compiled
from pipelines.machine.devices import build_computer, require_decoder
from pipelines.measure.bench import Bench, extraction_floor, matmul_gflops


@dataclass(frozen=True)
class BenchReport:
    """What was measured, where, and what it says of the whole.

    Attributes:
        has_weights: whether the network's own were at hand; random ones are as fast.
        rates: kept frames per second of each of `pipelines.measure.bench.PARTS`.
        floor: of the whole, see `extraction_floor`.
        ratios: of one rate to another.
        gflop_per_frame: multiply and add counted as two.
        matmul_share: of the rate of a large matrix product that the network reaches.
        video_hours_per_hour: of video at 25 frames a second, every frame kept.
    """

    backbone: str
    has_weights: bool
    device: str
    precision: str
    is_compiled: bool
    num_cores: int
    workers: int
    num_videos: int
    num_frames: int
    rates: dict[str, float]
    floor: float
    ratios: dict[str, float]
    gflop_per_frame: float
    matmul_share: float
    video_hours_per_hour: float


def bench_extract(
    source: str | Path, options: ComputeOptions, *, num_videos: int = 16, rounds: int = 3
) -> BenchReport:
    """Measure the extraction of some videos of a source, evenly chosen.

    Raises:
        UsageError: a number makes no sense, or the source names spans.
        ContractError: a video cannot be decoded.
    """
    check_request(source, options)
    if min(num_videos, rounds) < 1:
        raise UsageError(f"`num_videos` and `rounds` must be at least 1: {num_videos}, {rounds}")
    paths = _choose_videos(Path(source), num_videos)
    with tempfile.TemporaryDirectory(prefix="cubereel-bench-") as folder:
        weights = options.weights or _save_random_weights(options.backbone, Path(folder))
        network = load_backbone(options.backbone, weights=weights, layers=options.layers)
        computer = build_computer(
            network, fit=options.fit, precision=options.precision, device=options.device,
            batch_size=options.batch_size,
        )  # fmt: skip
        gpu = require_decoder(options.decoder, computer.device)
        computer = choose_compiled(options.compile, computer, num_frames=inf)  # as for a long job
        chosen = Path(folder) / "videos.txt"
        chosen.write_text("".join(f"{path}\n" for path in paths))
        same = vars(options) | {
            "weights": weights,
            "precision": computer.precision,
            "compile": "on" if computer.is_compiled else "off",
            "device": str(computer.device),
            "batch_size": computer.batch_size,
        }
        try:
            bench = Bench(
                paths, computer=computer, network=network, workers=options.workers,
                settings=DecodeSettings(
                    preprocessing=computer.preprocessing, sampling=options.sampling,
                    decoder=options.decoder, device=gpu,
                ),
                extract=partial(_seconds_to_extract, chosen, ExtractionOptions(**same)),
            )  # fmt: skip
        except DecodeError as err:
            raise ContractError(f"cannot measure: {err}") from err
        return _report(bench, bench.measure(rounds), computer, options)


def _seconds_to_extract(source: Path, options: ExtractionOptions) -> float:
    with tempfile.TemporaryDirectory(dir=source.parent) as out:
        report = extract(source, out=Path(out) / "bench.cubes", options=options)
    if report.failed:
        raise ContractError(f"cannot measure: {report.failed[0]['error']}")
    return report.extracting_seconds


def _report(
    bench: Bench, rates: dict[str, float], computer: CubeComputer, options: ComputeOptions
) -> BenchReport:
    num_cores = torch.get_num_threads()
    floor = extraction_floor(rates, num_cores=num_cores, shares_cores=computer.device.type == "cpu")
    gflop = bench.gflop()
    dtype = torch.bfloat16 if computer.precision == "bf16" else torch.float32
    return BenchReport(
        backbone=options.backbone,
        has_weights=options.weights is not None,
        device=str(computer.device),
        precision=computer.precision,
        is_compiled=computer.is_compiled,
        num_cores=num_cores,
        workers=options.workers,
        num_videos=len(bench.paths),
        num_frames=bench.num_frames,
        rates=rates,
        floor=floor,
        ratios={
            "whole / floor": rates["whole"] / floor,
            "whole / plain": rates["whole"] / rates["plain"],
            "decode / floor": rates["decode"] / rates["decode_floor"],
            "decode / naive": rates["decode"] / rates["decode_naive"],
            "backbone / eager fp32": rates["backbone"] / rates["backbone_eager"],
            "whole / backbone": rates["whole"] / rates["backbone"],
        },
        gflop_per_frame=gflop,
        matmul_share=gflop * rates["backbone"] / matmul_gflops(computer.device, dtype),
        video_hours_per_hour=rates["whole"] / 25,
    )


def _save_random_weights(backbone: str, folder: Path) -> Path:
    path = folder / "random.safetensors"
    save_file(load_network(backbone, trained=False).network.state_dict(), path)
    return path


def _choose_videos(source: Path, num_videos: int) -> list[Path]:
    videos = read_source(source)
    if any(row.start_seconds is not None or row.end_seconds is not None for row in videos.rows):
        raise UsageError(f"{source} names spans of videos; give 'bench' whole videos")
    num_videos = min(num_videos, len(videos.rows))
    evenly = (i * len(videos.rows) // num_videos for i in range(num_videos))
    return [videos.path(videos.rows[i]).absolute() for i in evenly]
