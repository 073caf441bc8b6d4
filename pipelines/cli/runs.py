"""`cubereel runs …`: what stands in run folders of `cubereel train`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features_store.paths import NEW_FOLDER, RUN
from pipelines.cli.arguments import AsJson, RunFolder
from pipelines.cli.show import OF_INTERVALS, bracketed, print_result, signed, table_lines

if TYPE_CHECKING:
    from pipelines.training.compare import Comparison

app = typer.Typer(help="Read run folders of 'cubereel train' again.", no_args_is_help=True)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A run folder.", **RUN.checked)],
    b: Annotated[Path, typer.Argument(help="Another, tested on the same splits.", **RUN.checked)],
    head_a: Annotated[
        str | None, typer.Option(help="A head of A, compared with one of B. Else all in both.")
    ] = None,
    head_b: Annotated[str | None, typer.Option(help="The head of B.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare heads of two runs, video by video; exit 3 when their splits or labels differ."""
    from pipelines.training.compare import compare as run

    comparison = run(a, b, head_a=head_a, head_b=head_b)
    print_result(comparison, _lines(comparison), as_json=as_json)


@app.command()
def plot(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.", **NEW_FOLDER.checked)],
) -> None:
    """Draw each head's learning curves, and its confusion matrix where the table is there."""
    from pipelines.training.pictures import draw_run

    for path in draw_run(run, out):
        typer.echo(path)


@app.command()
def tensorboard(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Folder for the event files.", **NEW_FOLDER.checked)],
) -> None:
    """Write each fit's learning curves for TensorBoard; needs the extra 'tensorboard'."""
    from pipelines.training.event_files import write_event_files

    number = write_event_files(run, out)
    typer.echo(f"curves of {number} fits are in {out}: tensorboard --logdir {out}")


def _lines(comparison: Comparison) -> Iterator[str]:
    from train.scores.metrics import Scores

    has_bands = len(comparison.heads) > 1
    rows = []
    for each in comparison.heads:
        names = dict.fromkeys([each.head_a, each.head_b])
        scores = [f"{each.score_a:.3f}", f"{each.score_b:.3f}"]
        band = [bracketed(each.band)] if has_bands else []
        rows.append([" / ".join(names), *scores, signed(each.difference, each.interval), *band])
    band = ["all (95 %)"] if has_bands else []
    yield from table_lines(["head", "A", "B", "B - A (95 %)", *band], rows)
    metric = Scores.names()[comparison.metric]
    yield f"{metric} of {comparison.num_videos} videos, {comparison.num_groups} groups"
    yield f"A: {comparison.a}; B: {comparison.b}"
    if comparison.differ:
        yield f"A and B differ in {', '.join(comparison.differ)}, and not in their heads alone"
    for name, heads in (("A", comparison.only_a), ("B", comparison.only_b)):
        if heads:
            yield f"only in {name}: {', '.join(heads)}"
    yield OF_INTERVALS
