"""`cubereel train`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features_store.paths import STORE
from pipelines.cli.arguments import AsJson
from pipelines.cli.expanding import expand_options, flag_names
from pipelines.cli.show import OF_INTERVALS, bracketed, number, print_json, print_table, signed
from pipelines.cli.stopping import time_limit
from pipelines.training.options import OF_TRAINING, TrainOptions

if TYPE_CHECKING:
    from pipelines.training.report import TrainReport


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("train")(expand_options(train))


def train(
    store: Annotated[Path, typer.Argument(help="The store to train on.", **STORE.checked)],
    options: TrainOptions,
    deadline: Annotated[
        str | None,
        typer.Option(
            help="Stop before (exit 75), to go on with the same command: 3h30m, seconds, or a time "
            "such as 2030-01-31T18:00; else $SLURM_JOB_END_TIME."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit one head or several on cached cubes and test them on videos they never saw."""
    from pipelines.configuration import merge_settings, parse_settings
    from pipelines.executors.deadline import Deadline, seconds_until_deadline
    from pipelines.executors.registry import require_executor
    from pipelines.training.request import check_features, check_request, read_table

    seconds = seconds_until_deadline(deadline, environment=os.environ, now=time.time())
    countdown = Deadline(seconds)
    # What is wrong is said before seconds of importing: pydantic comes late, torch last.
    keys = flag_names(TrainOptions, OF_TRAINING)
    merged = merge_settings(options.config, options.of_training(), keys=keys)
    rows = read_table(options.heads, options.table, parse_settings(options.settings))
    check_request(rows, folds=options.folds, seeds=options.seeds)
    require_executor(options.cluster)
    from features_store.metadata import read_header
    from train.fitting.config import parse_config

    config = parse_config(merged)
    check_features(rows, read_header(store), layers=config.layers, view=config.view)
    # What is done is kept, fit by fit; what is in work is begun again by the next run.
    with time_limit(countdown.seconds_left):
        from pipelines.training.train import train as run

        report = run(
            store, heads=rows, folds=options.folds, seeds=options.seeds, out=options.out,
            device=options.device, config=config, weights=options.weights,
            revision=options.revision, processes=options.processes, cluster=options.cluster,
            memory=options.memory,
        )  # fmt: skip
    if as_json:
        print_json(report)
    else:
        print_report(report)


def print_report(report: TrainReport) -> None:
    """Print the table of a run, what its numbers are, and where everything is."""
    print_table(*_columns_and_rows(report))
    for what, found in (("chosen", report.chosen), ("three together, chosen", report.ensemble)):
        if found:
            typer.echo(
                f"{what} by validation in each fold ({', '.join(found['head_of_fold'])}): "
                f"{_scores(report)[report.metric]} {found[report.metric]:.3f} "
                f"± {number(found['standard_error'])}, "
                f"{signed(found['difference'], found['interval'])} to the first"
            )
    for row in report.heads:
        layers = [selection["candidate"]["layer"] for selection in row.selections]
        if None not in layers:
            typer.echo(f"layer chosen by validation in each fold: {row.head}: {', '.join(layers)}")
        for name, means in row.map_means.items():
            said = ", ".join(f"{mean:.2f}" for mean in means)
            typer.echo(f"{name} of {row.head}, mean over test frames: {said}")
    typer.echo(
        f"{report.num_videos} videos, {report.num_groups} groups, {len(report.classes)} classes, "
        f"{len(report.split_hashes)} test splits, {_seeds(report)} seeds"
    )
    typer.echo(
        "validation: the best of a head's candidates by its own videos, hence too high"
        + ("; all: holds for all heads at once" if _has_bands(report) else "")
    )
    typer.echo(OF_INTERVALS)
    typer.echo(f"results: {report.run}/results.json")


def _columns_and_rows(report: TrainReport) -> tuple[list[str], list[list[str]]]:
    scores, rows = _scores(report), []
    for row in report.heads:
        first, *others = (f"{getattr(row, name):.3f}" for name in scores)
        error = [number(row.standard_error), number(row.seeds_deviation)]
        band = [bracketed(row.band)] if _has_bands(report) else []
        figures = [f"{row.validation_score:.3f}", f"{row.num_parameters}", f"{row.seconds:.0f}"]
        difference = [signed(row.difference, row.interval), *band]
        rows.append([row.head, first, *error, *difference, *others, *figures])
    first, *others = scores.values()
    band = ["all (95 %)"] if _has_bands(report) else []
    columns = ["head", first, "s.e.", "seeds sd", "to the first (95 %)", *band, *others]
    return [*columns, "validation", "parameters", "seconds"], rows


def _scores(report: TrainReport) -> dict[str, str]:
    """Return the scores that are shown, the one that heads are compared by first."""
    from train.scores.metrics import Scores

    first = report.heads[0]  # what applies to one head applies to all
    columns = Scores.names("column").items()
    return {name: text for name, text in columns if getattr(first, name) is not None}


def _has_bands(report: TrainReport) -> bool:
    return len(report.heads) > 2


def _seeds(report: TrainReport) -> str:
    """Return how many seeds the heads have; those that were there before may have others."""
    numbers = sorted({len(row.seeds) for row in report.heads})
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
