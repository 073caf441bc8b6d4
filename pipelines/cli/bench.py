"""`cubereel bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from features_store.paths import SOURCE, STORE
from pipelines.cli.arguments import AsJson
from pipelines.cli.expanding import expand_options
from pipelines.cli.show import print_json, print_table
from pipelines.extraction.options import ComputeOptions
from pipelines.machine.choices import require_device

app = typer.Typer(help="Measure this machine against its own floors.", no_args_is_help=True)


@app.command("extract")
@expand_options
def extract(
    source: Annotated[
        Path, typer.Argument(help="As for 'cubereel extract'; whole videos.", **SOURCE.checked)
    ],
    options: ComputeOptions,
    num_videos: Annotated[
        int, typer.Option("--videos", help="How many, evenly chosen from the source.")
    ] = 16,
    rounds: Annotated[int, typer.Option(help="Of which the fastest counts.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Extraction beside its floors and a plain loop, in frames per second and ratios."""
    from pipelines.extraction.request import check_request

    check_request(source, options)
    from pipelines.measure.bench import PARTS
    from pipelines.measure.bench_extract import bench_extract

    report = bench_extract(source, options, num_videos=num_videos, rounds=rounds)
    if as_json:
        print_json(report)
        return
    typer.echo(
        f"{report.backbone}{'' if report.has_weights else ' (random weights)'} on {report.device} "
        f"in {report.precision}{', compiled' if report.is_compiled else ''}, "
        f"{report.num_cores} cores, "
        f"{report.workers} decode workers, {report.num_videos} videos, "
        f"{report.num_frames} frames kept\n"
    )
    parts = {PARTS[name]: rate for name, rate in report.rates.items()}
    floor = "min(decode, backbone)" if report.device != "cpu" else "1/(1/decode + 1/backbone)"
    parts[f"floor of the whole: {floor}, decoding on all cores"] = report.floor
    print_table(["part", "frames/s"], [[name, f"{rate:.1f}"] for name, rate in parts.items()])
    typer.echo("")
    print_table(["ratio", ""], [[name, f"{ratio:.2f}"] for name, ratio in report.ratios.items()])
    typer.echo(
        f"\n{report.gflop_per_frame:.2f} GFLOP a frame; the network reaches "
        f"{report.matmul_share:.0%} of a large matrix product's rate\n"
        f"{report.video_hours_per_hour:.2f} hours of video an hour, every frame of 25 a second"
    )


@app.command("train")
def train(
    store: Annotated[
        Path,
        typer.Argument(help="Its clips are trained on; labels do not matter.", **STORE.checked),
    ],
    heads: Annotated[
        list[str], typer.Option("--head", help="NAME or NAME:option=value,…; repeat.")
    ],
    layers: Annotated[list[str] | None, typer.Option("--layer", help="As for 'train'.")] = None,
    clip_frames: Annotated[int, typer.Option(help="Frames of a clip.")] = 16,
    batch_size: Annotated[int, typer.Option(help="Clips per step.")] = 32,
    seconds: Annotated[float, typer.Option(help="For each measurement.")] = 4.0,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or auto.", callback=require_device)
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Training steps beside their floors and a plain loop, in clips per second on one core."""
    from features_store.metadata import read_header
    from pipelines.training.request import check_features, check_request, read_table
    from train.fitting.config import parse_config

    rows = read_table(heads, None, ())
    check_request(rows, folds=None, seeds=1)
    config = parse_config(
        {"layers": tuple(layers or ()), "clip_frames": clip_frames, "batch_size": batch_size}
    )
    check_features(rows, read_header(store), layers=config.layers, view=config.view)
    from pipelines.measure.bench_train import bench_train

    rates = bench_train(store, heads, config=config, device=device, seconds=seconds)
    if as_json:
        print_json(rates)
        return
    columns = {
        "one": "one fit", "together": "three fits", "plain": "plain loop", "by_bytes": "by bytes",
        "by_operations": "by operations", "to_plain": "one / plain", "to_floor": "best / floor",
    }  # fmt: skip
    shown = [
        [row["head"], *("–" if row[name] is None else _figure(row[name]) for name in columns)]
        for row in rates
    ]
    print_table(["head", *columns.values()], shown)


def _figure(value: float) -> str:
    return f"{value:.2f}" if value < 20 else f"{value:.0f}"
