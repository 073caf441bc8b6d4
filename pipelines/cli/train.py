"""`cubereel train` and `cubereel eval`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features_store.views import View
from pipelines.cli.choices import Aggregate, Order, Windows
from pipelines.cli.show import print_json, print_table

if TYPE_CHECKING:
    from pipelines.training.train import TrainReport
    from train.scores.metrics import Metrics

SCORES = {"balanced_accuracy": "balanced", "accuracy": "accuracy", "mean_average_precision": "mAP"}
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("train")(train)
    app.command("eval")(evaluate)


def train(
    store: Annotated[Path, typer.Argument(help="The store to train on.")],
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME or NAME:option=value,…; repeat to compare. See 'cubereel list heads'."
        ),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(help="Heads of a whole table: a .toml file, or see 'cubereel list grids'."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="name=value, an option of every head.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Cross-validate over groups instead of the split column.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Fits per fold.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; by default a dated one. Fits that it holds are kept."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with the options below; flags win.")
    ] = None,
    multi_label: Annotated[
        bool | None,
        typer.Option("--multi-label", help="Labels name any number of classes: 'sit;talk'."),
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="Layer; repeat. The last is the top.")
    ] = None,
    view: Annotated[
        View | None, typer.Option(help="What of the picture, of those stored [center].")
    ] = None,
    windows: Annotated[Windows | None, typer.Option(help="How videos are cut into clips.")] = None,
    clip_frames: Annotated[int | None, typer.Option(help="Frames of a clip [16].")] = None,
    frame_stride: Annotated[int | None, typer.Option(help="Rows from frame to frame [1].")] = None,
    window_stride: Annotated[int | None, typer.Option(help="Rows from clip to clip [1].")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data [15].")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clips per step [32].")] = None,
    lr: Annotated[
        list[float] | None, typer.Option(help="Learning rate; repeat to let validation choose.")
    ] = None,
    weight_decay: Annotated[
        list[float] | None, typer.Option(help="Weight decay; repeat to let validation choose.")
    ] = None,
    optimiser: Annotated[str | None, typer.Option(help="adam or adamw [adamw].")] = None,
    class_weights: Annotated[
        bool | None, typer.Option(help="Let every class count the same [yes].")
    ] = None,
    split_seed: Annotated[
        int | None, typer.Option(help="Of the shuffle that makes folds [0].")
    ] = None,
    inner_folds: Annotated[int | None, typer.Option(help="Rounds of validation [1].")] = None,
    aggregate: Annotated[Aggregate | None, typer.Option(help="Of a video's clips [mean].")] = None,
    last_n: Annotated[int | None, typer.Option(help="Average the last n steps only.")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="The backbone's weights, for heads that train its last layers."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Fit one head or several on cached cubes and test them on videos they never saw."""
    from features_store.metadata import read_header
    from pipelines.configuration import merge_config, parse_settings

    flags: dict[str, Any] = {
        "multi_label": multi_label,
        "layers": layer, "view": view,
        "windows": windows and windows.value, "clip_frames": clip_frames,
        "frame_stride": frame_stride, "window_stride": window_stride, "epochs": epochs,
        "batch_size": batch_size, "learning_rates": lr, "weight_decays": weight_decay,
        "optimiser": optimiser, "class_weights": class_weights, "inner_folds": inner_folds,
        "split_seed": split_seed,
        "aggregate": aggregate and aggregate.value, "last_n": last_n,
    }  # fmt: skip
    options, merged = parse_settings(set_ or []), merge_config(config, flags)
    merged.check()
    read_header(store)  # what is wrong so far is said before seconds of importing
    from pipelines.training.train import train as run

    report = run(
        store, heads=head or [], grid=grid, options=options, folds=folds, seeds=seeds, out=out,
        device=device, config=merged, weights=weights,
    )  # fmt: skip
    if as_json:
        print_json(report)
    else:
        print_report(report)


def print_report(report: TrainReport) -> None:
    """Print the table of a run, and where everything is."""
    is_only = report.config["multi_label"]
    scores = {name: SCORES[name] for name in ([report.metric] if is_only else SCORES)}
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
        f"{len(report.split_hashes)} test splits, {report.num_seeds} seeds; s.e. over groups"
    )
    typer.echo(f"results: {report.run}/results.json")


def _signed(difference: float, interval: tuple[float, float]) -> str:
    return f"{difference:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of a run folder (.json).")],
    store: Annotated[Path, typer.Argument(help="The store to test on.")],
    split: Annotated[
        str | None,
        typer.Option(help="A split of the manifest; by default the checkpoint's test videos."),
    ] = None,
    frame_order: Annotated[
        Order,
        typer.Option(
            help="Of cubes and stored differences within a clip: is the right one needed?"
        ),
    ] = Order.forward,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Score a checkpoint on the videos it was not fitted on, or on a split of the manifest."""
    from features_store.metadata import read_header

    read_header(store)
    from pipelines.training.evaluate import evaluate as run

    metrics, classes = run(
        checkpoint, store, split=split, frame_order=frame_order.value, device=device
    )
    if as_json:
        print_json({**asdict(metrics), "classes": classes})
        return
    precision = f"mAP {metrics.mean_average_precision:.3f}"
    if metrics.confusion is None:
        typer.echo(f"{metrics.num_videos} videos: {precision}")
        print_table(["class", "videos", "AP"], _per_class(metrics, classes))
        return
    typer.echo(
        f"{metrics.num_videos} videos: balanced accuracy {metrics.balanced_accuracy:.3f}, "
        f"accuracy {metrics.accuracy:.3f}, {precision}"
    )
    rows = [[name, *map(str, row)] for name, row in zip(classes, metrics.confusion, strict=True)]
    print_table(["label \\ predicted", *classes], rows)


def _per_class(metrics: Metrics, classes: Sequence[str]) -> list[list[str]]:
    """Return a line for each class; of one that no video has there is no precision."""
    found = zip(classes, metrics.class_counts, metrics.average_precisions, strict=True)
    return [[name, str(count), "–" if ap is None else f"{ap:.3f}"] for name, count, ap in found]
