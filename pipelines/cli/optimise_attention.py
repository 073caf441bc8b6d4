"""`cubereel optimise-attention`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from features_store.paths import STORE
from pipelines.cli.arguments import AsJson, CheckpointPath
from pipelines.cli.expanding import expand_options
from pipelines.cli.show import print_json, print_table
from pipelines.explain.options import OptimiseOptions

if TYPE_CHECKING:
    from pipelines.explain.optimise import MisclassifiedVideos, OptimisedVideo, Verdict

MEASURES = {
    "label_prob": "prob", "log_prob": "log-prob", "entropy": "entropy",
    "total_variation": "variation",
}  # fmt: skip
NO_ACCURACY = (
    "The correct label was used to find the optimised attention: this shows what looking elsewhere "
    "could do.\nIt is no accuracy."
)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("optimise-attention")(expand_options(optimise_attention))


def optimise_attention(
    checkpoint: CheckpointPath,
    store: Annotated[
        Path, typer.Argument(help="The store that holds the videos.", **STORE.checked)
    ],
    options: OptimiseOptions,
    as_json: AsJson = False,
) -> None:
    """Search the attention under which a head gives a video its correct label."""
    from features_store.metadata import read_header

    options.check()
    read_header(store)
    from pipelines.explain.optimise import optimise_misclassified, optimise_video

    if options.video is None:
        misclassified = optimise_misclassified(checkpoint, store, options)
        if as_json:
            print_json(misclassified)
        else:
            _print_all(misclassified)
        return
    result = optimise_video(checkpoint, store, options.video, options)
    if as_json:
        print_json(result)
    else:
        _print_one(result)


def _print_one(result: OptimisedVideo) -> None:
    typer.echo(f"{result.video_id}, optimised for {result.label}")
    named = {"own": result.own, "random": result.random, "optimised": result.optimised}
    rows = [[name, verdict.prediction, *_means([verdict])] for name, verdict in named.items()]
    print_table(["attention", "prediction", *MEASURES.values()], rows)
    typer.echo(NO_ACCURACY)
    if result.path:
        typer.echo(result.path)


def _print_all(result: MisclassifiedVideos) -> None:
    num_wrong = len(result.videos)
    typer.echo(f"{num_wrong} of {result.num_videos} videos are misclassified")
    if not num_wrong:
        return
    flipped = {
        "own": 0,
        "random": result.num_flipped_by_random,
        "optimised": result.num_flipped,
    }
    rows = [
        [
            name,
            f"{right} ({right / num_wrong:.0%})",
            *_means([getattr(video, name) for video in result.videos]),
        ]
        for name, right in flipped.items()
    ]
    print_table(["attention", "flipped", *MEASURES.values()], rows)
    typer.echo(NO_ACCURACY)


def _means(verdicts: Sequence[Verdict]) -> list[str]:
    return [f"{fmean(getattr(verdict, name) for verdict in verdicts):.2f}" for name in MEASURES]
