"""`cubereel bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.arguments import AsJson
from pipelines.cli.expanding import expand_options
from pipelines.cli.show import print_json, print_table
from pipelines.extraction.options import ComputeOptions

app = typer.Typer(help="Measure this machine against its own floors.", no_args_is_help=True)


@app.command("extract")
@expand_options
def extract(
    source: Annotated[Path, typer.Argument(help="As for 'cubereel extract'; whole videos.")],
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
