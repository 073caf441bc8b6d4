"""`cubereel extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.choices import Compression, Diffs, Dtype, Fit, Precision, View
from pipelines.cli.show import print_json


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("extract")(extract)


def extract(
    source: Annotated[
        Path, typer.Argument(help="Folder of class folders, manifest CSV, or a list of paths.")
    ],
    out: Annotated[Path, typer.Option(help="The store; made, or extended where it was left.")],
    backbone: Annotated[
        str, typer.Option(help="source:name; see 'cubereel list backbones'.")
    ] = "torchvision:googlenet",
    weights: Annotated[
        Path | None, typer.Option(help="Weights file instead of the library's own download.")
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Layer to keep, or NAME@avg7, NAME@max7; repeat. Last map if none."),
    ] = None,
    fps: Annotated[str | None, typer.Option(help="Frames a second to keep, by time.")] = None,
    stride: Annotated[int | None, typer.Option(help="Keep every n-th decoded frame.")] = None,
    count: Annotated[
        int | None, typer.Option(help="Frames to keep of each video, evenly spaced in time.")
    ] = None,
    segments: Annotated[
        int | None, typer.Option(help="Keep the centre frame of each of n equal segments.")
    ] = None,
    jitter: Annotated[
        int, typer.Option(help="Random draws of a frame a segment, beside that of the centres.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the random draws.")] = 0,
    view: Annotated[
        list[View] | None, typer.Option(help="What of the picture; repeat. center if none.")
    ] = None,
    diffs: Annotated[
        Diffs, typer.Option(help="cubes: also the backbone's cubes of difference images.")
    ] = Diffs.frames,
    fit: Annotated[Fit, typer.Option(help="How frames get the network's shape.")] = Fit.crop,
    precision: Annotated[
        Precision, typer.Option(help="auto: bf16 where it is fast and agrees with fp32.")
    ] = Precision.auto,
    dtype: Annotated[Dtype, typer.Option(help="Of the cubes in the store.")] = Dtype.float16,
    compression: Annotated[
        Compression, typer.Option(help="Of cubes and differences in the store.")
    ] = Compression.none,
    compact: Annotated[
        bool, typer.Option("--compact", help="Short for --dtype 8bit --compression zstd.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …, or auto.")] = "auto",
    batch_size: Annotated[int, typer.Option(help="Frames that travel together.")] = 32,
    workers: Annotated[int, typer.Option(help="Processes that decode.")] = 1,
    timeout: Annotated[
        float, typer.Option(help="Seconds without a frame after which a video has failed.")
    ] = 120.0,
    root: Annotated[
        Path | None, typer.Option(help="Folder that video ids are relative to.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the videos, kept in the store.")] = "",
    origin: Annotated[str, typer.Option(help="Where the videos are from.")] = "",
    citation: Annotated[str, typer.Option(help="What users of the store are to cite.")] = "",
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Compare files by content, not by size and time.")
    ] = False,
    max_failed: Annotated[
        int, typer.Option(help="Failed videos that still count as success (exit 0).")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Decode videos, run a frozen backbone, write cubes to a store. Safe to run again."""
    from features_store.errors import CoverageError
    from pipelines.extraction import extract as run

    report = run(
        source, out=out, backbone=backbone, weights=weights, layers=layer or (), fps=fps,
        stride=stride, count=count, segments=segments, jitter=jitter, seed=seed,
        views=[each.value for each in view or ()], diffs=diffs.value,
        fit=fit.value, precision=precision.value,
        dtype="8bit" if compact else dtype.value,
        compression="zstd" if compact else compression.value,
        device=device, batch_size=batch_size, workers=workers, root=root, licence=licence,
        origin=origin, citation=citation, rehash=rehash, timeout_seconds=timeout,
    )  # fmt: skip
    if as_json:
        print_json(report)
    else:
        typer.echo(
            f"{report.num_in_store} of {report.num_videos} videos are in {report.store}: "
            f"{report.num_extracted} extracted now ({report.num_frames} frames, "
            f"{report.seconds:.1f} s), {report.num_done_before} before"
        )
        for failure in report.failed:
            typer.echo(f"failed  {failure['video_id']}  [{failure['reason']}]  {failure['error']}")
    if len(report.failed) > max_failed:
        raise CoverageError(
            f"{len(report.failed)} of {report.num_videos} videos failed, --max-failed allows "
            f"{max_failed}; first: {report.failed[0]['error']}. "
            f"Full list: {report.store}/failures/{report.run_id}.jsonl"
        )
