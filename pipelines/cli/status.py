"""`cubereel status`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from pipelines.cli.arguments import AsJson, StorePath
from pipelines.cli.show import format_seconds, print_result

if TYPE_CHECKING:
    from pipelines.extraction.status import StatusReport


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("status")(status)


def status(store: StorePath, as_json: AsJson = False) -> None:
    """Say how far the plan of a store is: who works on what, what failed, when it may be done."""
    from pipelines.extraction.status import status as run

    report = run(store)
    print_result(report, _lines(report), as_json=as_json)


def _lines(report: StatusReport) -> Iterator[str]:
    before = f", {report.videos_before} before" if report.videos_before else ""
    yield f"plan     {report.plan}: {report.videos} videos{before}, {report.units} units"
    yield (
        f"units    {report.units_done} done, {len(report.in_work)} in work, "
        f"{report.units_waiting} waiting"
    )
    yield f"videos   {report.stored} stored, {report.failed} failed, of the units that are done"
    for reason, number in report.reasons.items():
        yield f"failed   {number}  {reason}"
    for each in report.in_work:
        yield f"in work  {each.unit}  {each.holder}, since {each.since}"
    if report.workers_lost:
        yield f"lost     {report.workers_lost} workers ended in the midst of a unit"
    if report.unlisted:
        yield f"unlisted {report.unlisted} shards are sealed; 'cubereel extract' lists them"
    if report.frames_per_second is not None:
        speed = f"speed    {report.frames_per_second:.0f} frames/s over all workers"
        if report.units_done < report.units and report.seconds_left is not None:
            speed += f"; done in about {format_seconds(report.seconds_left)}"
        yield speed
