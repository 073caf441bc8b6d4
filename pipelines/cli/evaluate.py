"""`cubereel eval`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features_store.paths import STORE
from pipelines.cli.arguments import AsJson, CheckpointPath
from pipelines.cli.show import print_json, print_table
from pipelines.machine.choices import require_device
from train.data.kinds import FrameOrder

if TYPE_CHECKING:
    from train.scores.metrics import Metrics


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("eval")(evaluate)


def evaluate(
    checkpoint: CheckpointPath,
    store: Annotated[Path, typer.Argument(help="The store to test on.", **STORE.checked)],
    split: Annotated[
        str | None,
        typer.Option(help="A split of the manifest; by default the checkpoint's test videos."),
    ] = None,
    frame_order: Annotated[
        FrameOrder,
        typer.Option(
            help="Of cubes and stored differences within a clip: is the right one needed?"
        ),
    ] = "forward",
    device: Annotated[
        str, typer.Option(help="cpu, cuda or auto.", callback=require_device)
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Score a checkpoint on the videos it was not fitted on, or on a split of the manifest."""
    from features_store.metadata import read_header

    read_header(store)
    from pipelines.training.evaluate import evaluate as run

    metrics, classes = run(checkpoint, store, split=split, frame_order=frame_order, device=device)
    if as_json:
        print_json({**asdict(metrics), "classes": classes})
        return
    found = {text: getattr(metrics, name) for name, text in metrics.names("text").items()}
    scores = ", ".join(f"{text} {value:.3f}" for text, value in found.items() if value is not None)
    typer.echo(f"{metrics.num_videos} videos: {scores}")
    if metrics.confusion is None:
        print_table(["class", "videos", "AP"], _per_class(metrics, classes))
        return
    rows = [[name, *map(str, row)] for name, row in zip(classes, metrics.confusion, strict=True)]
    print_table(["label \\ predicted", *classes], rows)


def _per_class(metrics: Metrics, classes: Sequence[str]) -> list[list[str]]:
    """Return a line for each class; of one that no video has there is no precision."""
    found = zip(classes, metrics.class_counts, metrics.average_precisions, strict=True)
    return [[name, str(count), "–" if ap is None else f"{ap:.3f}"] for name, count, ap in found]
