"""`cubereel train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.arguments import AsJson
from pipelines.cli.expanding import expand_options
from pipelines.cli.show import print_json, print_table
from pipelines.training.options import TrainOptions

if TYPE_CHECKING:
    from pipelines.training.report import TrainReport


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("train")(expand_options(train))


def train(
    store: Annotated[Path, typer.Argument(help="The store to train on.")],
    options: TrainOptions,
    as_json: AsJson = False,
) -> None:
    """Fit one head or several on cached cubes and test them on videos they never saw."""
    from pipelines.configuration import merge_settings, parse_settings
    from pipelines.executors.registry import require_executor
    from pipelines.training.request import check_request, read_table

    # What is wrong is said before seconds of importing: pydantic comes late, torch last.
    merged = merge_settings(options.config, options.of_training())
    rows = read_table(options.heads, options.grid, parse_settings(options.settings))
    check_request(rows, folds=options.folds, seeds=options.seeds)
    require_executor(options.cluster)
    from features_store.metadata import read_header
    from train.fitting.config import parse_config

    config = parse_config(merged)
    read_header(store)
    from pipelines.training.train import train as run

    report = run(
        store, heads=rows, folds=options.folds, seeds=options.seeds, out=options.out,
        device=options.device, config=config, weights=options.weights, revision=options.revision,
        processes=options.processes, cluster=options.cluster,
    )  # fmt: skip
    if as_json:
        print_json(report)
    else:
        print_report(report)


def print_report(report: TrainReport) -> None:
    """Print the table of a run, and where everything is."""
    from train.scores.metrics import Scores

    is_only = report.config["multi_label"]
    columns = Scores.names("column")
    scores = {name: columns[name] for name in ([report.metric] if is_only else columns)}
    rows = []
    for row in report.heads:
        first, *others = (f"{getattr(row, name):.3f}" for name in scores)
        error = [f"{row.standard_error:.3f}", _signed(row.difference, row.interval)]
        figures = [f"{row.validation_score:.3f}", f"{row.num_parameters}", f"{row.seconds:.0f}"]
        rows.append([row.head, first, *error, *others, *figures])
    first, *others = scores.values()
    error = ["s.e.", "to the first (95 %)"]
    print_table(["head", first, *error, *others, "validation", "parameters", "seconds"], rows)
    if report.chosen:
        typer.echo(
            f"chosen by validation in each fold ({', '.join(report.chosen['head_of_fold'])}): "
            f"{first} {report.chosen[report.metric]:.3f} "
            f"± {report.chosen['standard_error']:.3f}, "
            f"{_signed(report.chosen['difference'], report.chosen['interval'])} to the first"
        )
    typer.echo(
        f"{report.num_videos} videos, {report.num_groups} groups, {len(report.classes)} classes, "
        f"{len(report.split_hashes)} test splits, {_seeds(report)} seeds; s.e. over groups"
    )
    typer.echo(f"results: {report.run}/results.json")


def _seeds(report: TrainReport) -> str:
    """Return how many seeds the heads have; those that were there before may have others."""
    numbers = sorted({len(row.seeds) for row in report.heads})
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _signed(difference: float, interval: tuple[float, float]) -> str:
    return f"{difference:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"
