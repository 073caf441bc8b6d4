"""`cubereel extract`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from features_store.errors import CoverageError
from pipelines.cli.arguments import AsJson, NewStore, Source
from pipelines.cli.expanding import expand_options
from pipelines.cli.flags import with_flags
from pipelines.cli.show import print_json
from pipelines.cli.stopping import Stopped, time_limit
from pipelines.extraction.options import ExtractionOptions
from pipelines.terminal import in_a_line

if TYPE_CHECKING:
    from pipelines.extraction.run import ExtractionReport


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("extract")(extract)


@expand_options
def extract(
    source: Source,
    out: NewStore,
    options: ExtractionOptions,
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
    as_json: AsJson = False,
) -> None:
    """Decode videos, run a frozen backbone, write cubes to a store. Safe to run again."""
    from pipelines.executors.deadline import Deadline, seconds_until_deadline
    from pipelines.extraction.request import check_request

    check_request(source, options)
    seconds = seconds_until_deadline(deadline, environment=os.environ, now=time.time())
    countdown = Deadline(seconds)
    with time_limit(countdown.seconds_left):
        from pipelines.extraction.extract import extract as run

        report = run(source, out=out, options=options, deadline=countdown)
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
            said = f"{title}  {failure['video_id']}  [{failure['reason']}]  {error}"
            typer.echo(in_a_line(said))


def _too_many_failed(report: ExtractionReport, max_failed: int) -> CoverageError:
    before = len(report.failed_before)
    in_earlier = f" ({before} of them in earlier runs; `retry_failed` tries again)"
    return CoverageError(
        f"{report.num_failed} of {report.num_videos} videos failed{in_earlier if before else ''}, "
        f"`max_failed` allows {max_failed}; they are named above and in {report.store}/failures"
    )
