"""`cubereel explain`, `predict` and `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.arguments import AsJson
from pipelines.cli.show import print_json

CheckpointPath = Annotated[Path, typer.Argument(help="A checkpoint of a run folder (.json).")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("explain")(explain)
    app.command("predict")(predict)
    app.command("demo")(demo)


def explain(
    checkpoint: CheckpointPath,
    store: Annotated[Path, typer.Argument(help="The store that holds the video.")],
    video: Annotated[str, typer.Option(help="Its id, as 'cubereel store ls' shows it.")],
    out: Annotated[Path, typer.Option(help="The picture: .mp4 or .png.")],
    root: Annotated[
        Path | None, typer.Option(help="Where the videos are now, if they moved.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw over a video's frames where a head looks."""
    from features_store.metadata import read_header

    read_header(store)
    from pipelines.explain.explain import explain as run

    result = run(checkpoint, store, video=video, out=out, root=root)
    if as_json:
        print_json(result)
    else:
        said = f", labelled {result.label}" if result.label else ""
        typer.echo(f"{result.video_id}: {result.verdict}{said}")
        typer.echo(result.path)


def predict(
    checkpoint: CheckpointPath,
    videos: Annotated[list[Path], typer.Argument(help="Video files.")],
    weights: Annotated[
        Path | None, typer.Option(help="The backbone's weights, if it has no download.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Say what new videos show, end to end."""
    from features_store.errors import CoverageError
    from pipelines.training.evaluate import predict as run

    predictions, failed = run(checkpoint, videos, weights=weights, device=device)
    if as_json:
        print_json({"predictions": [vars(p) for p in predictions], "failed": failed})
    else:
        for prediction in predictions:
            probs = ";".join(f"{prob:.3f}" for prob in prediction.predicted_probs)
            typer.echo(f"{prediction.video}\t{prediction.prediction}\t{probs}")
    if failed:
        raise CoverageError(f"{len(failed)} of {len(videos)} videos failed: {failed[0]['error']}")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path(
        "cubereel-demo"
    ),
) -> None:
    """Extract, train, test and explain on real clips that are installed here; no download."""
    from pipelines.cli.train import print_report
    from pipelines.recipes.demo import run_demo

    result = run_demo(out)
    print_report(result.report)
    typer.echo("\nWhere soft attention looks:")
    for path in result.pictures:
        typer.echo(f"  {path}")
    typer.echo(
        "\nThis task is easy: each class is one clip, and the windows to train on and to test on "
        "come from\nthe same clip, so colours alone tell them apart. It shows that everything "
        "works, not how good a head is."
    )
