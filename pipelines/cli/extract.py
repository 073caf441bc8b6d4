"""`cubereel extract`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features_store.errors import CoverageError
from pipelines.cli import options
from pipelines.cli.choices import (
    Compile,
    Compression,
    Decoder,
    Diffs,
    Dtype,
    Fit,
    Partial,
    Precision,
)
from pipelines.cli.flags import with_flags
from pipelines.cli.show import print_json
from pipelines.cli.stopping import Stopped, time_limit

if TYPE_CHECKING:
    from pipelines.extraction.run import ExtractionReport


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("extract")(extract)


def extract(
    source: Annotated[
        Path, typer.Argument(help="Folder of class folders, manifest CSV, or a list of paths.")
    ],
    out: Annotated[Path, typer.Option(help="The store; made, or extended where it was left.")],
    backbone: options.Backbone = options.DEFAULT_BACKBONE,
    weights: Annotated[
        Path | None, typer.Option(help="Weights file instead of the library's own download.")
    ] = None,
    layer: options.Layer = None,
    fps: options.Fps = None,
    stride: options.Stride = None,
    count: options.Count = None,
    segments: options.Segments = None,
    jitter: options.Jitter = 0,
    seed: options.Seed = 0,
    view: options.View = None,
    diffs: options.Diffs = Diffs.frames,
    fit: options.Fit = Fit.crop,
    precision: options.Precision = Precision.auto,
    compile: options.Compile = Compile.auto,
    dtype: options.Dtype = Dtype.float16,
    compression: Annotated[
        Compression, typer.Option(help="Of cubes and differences in the store.")
    ] = Compression.none,
    compact: options.Compact = False,
    device: options.Device = "auto",
    decoder: options.Decoder = Decoder.cpu,
    batch_size: options.BatchSize = None,
    workers: options.Workers = 1,
    timeout: Annotated[
        float, typer.Option(help="Seconds without progress after which a video has failed.")
    ] = 120.0,
    root: options.Root = None,
    licence: Annotated[str, typer.Option(help="Licence of the videos, kept in the store.")] = "",
    origin: Annotated[str, typer.Option(help="Where the videos are from.")] = "",
    citation: Annotated[str, typer.Option(help="What users of the store are to cite.")] = "",
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Compare files by content, not by size and time.")
    ] = False,
    partial: Annotated[
        Partial, typer.Option(help="Of a video that breaks off: keep the frames before, or drop.")
    ] = Partial.drop,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Try files again that failed or are partial, though unchanged."
        ),
    ] = False,
    max_failed: Annotated[
        int,
        typer.Option(
            min=0, help="Failed videos, of earlier runs too, that still count as success."
        ),
    ] = 0,
    deadline: Annotated[
        str | None,
        typer.Option(
            help="Stop in good order before (exit 75): 3h30m, seconds, or a time such as "
            "2030-01-31T18:00; else $SLURM_JOB_END_TIME."
        ),
    ] = None,
    header_cache: options.HeaderCache = None,
    as_json: options.Json = False,
) -> None:
    """Decode videos, run a frozen backbone, write cubes to a store. Safe to run again."""
    from features_store.spec import Sampling
    from pipelines.executors.deadline import Deadline, seconds_until_deadline
    from pipelines.extraction.request import check_request

    sampling = Sampling.parse(
        fps=fps, stride=stride, count=count, segments=segments, jitter=jitter, seed=seed
    )
    check_request(
        source, sampling=sampling, backbone=backbone, workers=workers, timeout_seconds=timeout,
        partial=partial.value,
    )  # fmt: skip
    seconds = seconds_until_deadline(deadline, environment=os.environ, now=time.time())
    countdown = Deadline(seconds)
    with time_limit(countdown.seconds_left):
        from pipelines.extraction.extract import extract as run

        report = run(
            source, out=out, backbone=backbone, weights=weights, layers=layer or (), fps=fps,
            stride=stride, count=count, segments=segments, jitter=jitter, seed=seed,
            views=[each.value for each in view or ()], diffs=diffs.value, fit=fit.value,
            precision=precision.value, compile=compile.value,
            dtype="8bit" if compact else dtype.value,
            compression="zstd" if compact else compression.value,
            device=device, decoder=decoder.value, batch_size=batch_size,
            workers=workers, root=root, licence=licence, origin=origin, citation=citation,
            rehash=rehash, partial=partial.value, retry_failed=retry_failed, deadline=countdown,
            timeout_seconds=timeout, header_cache=header_cache,
        )  # fmt: skip
    if as_json:
        print_json(report)
    else:
        _show(report)
    if report.stopped:
        raise Stopped("stopped before the deadline")
    if report.num_failed > max_failed:
        raise _too_many_failed(report, max_failed)


def _show(report: ExtractionReport) -> None:
    partial = f" ({report.num_partial} of them partial)" if report.num_partial else ""
    typer.echo(
        f"{report.num_in_store} of {report.num_videos} videos are in {report.store}{partial}: "
        f"{report.num_extracted} extracted now ({report.num_frames} frames, "
        f"{report.seconds:.1f} s), {report.num_done_before} before"
    )
    for title, failures in (
        ("partial", report.partial),
        ("failed", report.failed),
        ("failed before", report.failed_before),
    ):
        for failure in failures:
            error = with_flags(failure["error"])
            typer.echo(f"{title}  {failure['video_id']}  [{failure['reason']}]  {error}")


def _too_many_failed(report: ExtractionReport, max_failed: int) -> CoverageError:
    before = len(report.failed_before)
    in_earlier = f" ({before} of them in earlier runs; --retry-failed tries again)"
    first = (report.failed + report.failed_before)[0]
    return CoverageError(
        f"{report.num_failed} of {report.num_videos} videos failed{in_earlier if before else ''}, "
        f"--max-failed allows {max_failed}; first: {first['video_id']}: {first['error']}. "
        f"Full list: {report.store}/failures"
    )
