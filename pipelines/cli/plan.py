"""`cubereel plan`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features_store.errors import ContractError, CoverageError, UsageError
from features_store.paths import NEW_FOLDER
from pipelines.cli.arguments import AsJson, Source
from pipelines.cli.expanding import expand_options, flags_of
from pipelines.cli.flags import with_flags
from pipelines.cli.show import format_bytes, format_seconds, print_json, print_table
from pipelines.extraction.options import StoreOptions
from pipelines.terminal import in_a_line, print_program

if TYPE_CHECKING:
    from pipelines.extraction.estimate import PlanReport


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("plan")(plan)


@expand_options
def plan(
    source: Source,
    options: StoreOptions,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A store; made, or taken, and given the plan of what is to be extracted.",
            **NEW_FOLDER.checked,
        ),
    ] = None,
    slurm: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Print a SLURM script of an array of N tasks."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(help="Read this many headers only, and estimate the rest.")
    ] = None,
    calibrate_seconds: Annotated[
        float,
        typer.Option(
            "--calibrate", help="Seconds to time decoding, and again the backbone; 0: no time."
        ),
    ] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Say how many frames, bytes and hours an extraction is, from headers; write its plan."""
    from pipelines.extraction.request import check_plan

    check_plan(
        source, options, sample=sample, calibrate_seconds=calibrate_seconds, is_stored=bool(out)
    )
    if slurm is not None and (out is None or as_json):
        raise UsageError("`slurm` prints a script for the plan in `out`, which is needed; no JSON")
    from pipelines.extraction.estimate import plan as run

    report = run(source, options, sample=sample, calibrate_seconds=calibrate_seconds)
    if as_json and out is None:
        print_json(report)
    elif slurm is None and not as_json:
        _show(report)
    if report.backbone_problem:
        raise ContractError(report.backbone_problem)
    if not report.frames:
        raise CoverageError(f"no frame would be kept of {report.videos} videos; see above")
    if out is not None:
        _write(source, out, options, report, slurm=slurm, as_json=as_json)


def _write(
    source: Path,
    out: Path,
    options: StoreOptions,
    report: PlanReport,
    *,
    slurm: int | None,
    as_json: bool,
) -> None:
    """Write the plan into the store; say what it is, or print the script that works on it."""
    from pipelines.executors.slurm_script import slurm_script
    from pipelines.extraction.planning import plan_store

    seconds = None if report.time is None else report.time.seconds / report.frames
    plan = plan_store(source, out, options, frame_seconds=seconds)
    num_units = 0 if plan is None else len(plan.units)
    said = {"store": str(out), "plan": None if plan is None else plan.id, "units": num_units}
    if as_json:
        print_json({**asdict(report), "stored": said})
        return
    at_work = [unit.seconds for unit in plan.units if unit.seconds] if plan is not None else []
    length = f" of about {format_seconds(max(at_work))} at most" if at_work else ""
    line = f"plan     {num_units} units{length} are in {out / 'plan.json'}"
    typer.echo(line if num_units else f"plan     nothing is to do in {out}", err=slurm is not None)
    if slurm is not None and plan is not None:
        arguments = ["extract", str(source.absolute()), "--out", str(out.absolute())]
        print_program(
            slurm_script(
                [*arguments, *flags_of(options)],
                num_tasks=min(slurm, num_units),
                num_units=num_units,
                workers=options.workers,
                has_gpu=options.device != "cpu",
            )
        )


def _show(report: PlanReport) -> None:
    """Print the report for people."""
    _show_headers(report)
    asked, unknown = report.headers["asked"], report.headers["unknown"]
    is_sampled = asked < unknown
    about = "about " if is_sampled or report.frames_estimated else ""
    is_close = is_sampled and report.spread is not None
    spread = f" ± {report.spread:.0f} (95 %)" if is_close else ""
    kept = f"--{report.sampling.kind} {report.sampling.value}"
    typer.echo(f"frames   {about}{report.frames}{spread} of {report.decoded} ({kept})")
    if is_sampled:
        few = "" if is_close else "; too few to say how far off that is"
        typer.echo(f"         estimated from {asked} of {unknown} unknown headers{few}")
    if report.frames_estimated:
        share = f"{report.frames_estimated / report.frames:.1%}"
        typer.echo(
            f"         {share} of them are estimates: their headers tell a duration, no count of "
            "frames, or frames do not come evenly"
        )
    for video_id, problem in report.problems:
        typer.echo(in_a_line(f"problem  {video_id}  {with_flags(problem)}"))
    if report.backbone_problem:
        typer.echo("bytes    not known without the backbone, nor is the time")
        return
    _show_bytes(report)
    _show_time(report)


def _show_headers(report: PlanReport) -> None:
    bad = []
    for number, what in ((report.no_header, "no readable header"), (report.no_frames, "no frames")):
        if number:
            bad.append(f"; {number} ({number / report.videos:.1%}) with {what}")
    typer.echo(f"videos   {report.videos}{''.join(bad)}")
    said = report.headers
    read = f"{said['files_read']} files read"
    if said["files_read"]:
        rate = said["files_read"] / max(said["seconds"], 1e-9)
        read += f" in {said['seconds']:.1f} s ({rate:.0f} files/s)"
    typer.echo(f"headers  {said['in_manifest']} in the manifest, {said['in_cache']} known, {read}")


def _show_bytes(report: PlanReport) -> None:
    shapes = {la.name: f"{la.name} {la.grid_size}×{la.grid_size}×{la.dim}" for la in report.layers}
    dtypes = list(report.bytes)
    rows = [
        [
            f"  {shapes.get(what, what)}",
            *(format_bytes(report.bytes[name][what]) for name in dtypes),
        ]
        for what in report.bytes[dtypes[0]]
    ]
    print_table(["bytes", *(f"{n}*" if n == report.dtype else n for n in dtypes)], rows)
    note = "* as asked for; without compression"
    typer.echo(note + (", zstd makes it less" if report.compression == "zstd" else ""))


def _show_time(report: PlanReport) -> None:
    if report.time is None:
        typer.echo(f"time     not estimated: {report.time_problem}")
        return
    time = report.time
    weights = "" if report.has_weights else ", random weights"
    typer.echo(
        f"time     about {format_seconds(time.seconds)}, without writing and waiting for disks\n"
        f"         decoding {format_seconds(time.decode_seconds)}: "
        f"{time.decode.frames_per_second:.0f} frames/s, measured on {time.decode.items} videos "
        f"({time.decode.frames} frames) with {time.workers} workers\n"
        f"         backbone {format_seconds(time.backbone_seconds)}: "
        f"{time.backbone.frames_per_second:.0f} frames/s, measured on {time.backbone.frames} "
        f"frames on {time.device} ({time.cores} cores) in {time.precision}{weights}"
    )
