"""`cubereel explain`, `predict` and `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features_store.paths import FOLDER, NEW_FILE, NEW_FOLDER, STORE, VIDEO, WEIGHTS
from pipelines.cli.arguments import AsJson, CheckpointPath
from pipelines.cli.show import print_json, print_table
from pipelines.machine.choices import require_device
from pipelines.terminal import in_a_line

if TYPE_CHECKING:
    from pipelines.training.evaluate import Prediction


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("explain")(explain)
    app.command("predict")(predict)
    app.command("demo")(demo)


def explain(
    checkpoint: CheckpointPath,
    store: Annotated[Path, typer.Argument(help="The store that holds the video.", **STORE.checked)],
    video: Annotated[str, typer.Option(help="Its id, as 'cubereel store ls' shows it.")],
    out: Annotated[Path, typer.Option(help="The picture: .mp4 or .png.", **NEW_FILE.checked)],
    root: Annotated[
        Path | None,
        typer.Option(help="Where the videos are now, if they moved.", **FOLDER.checked),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw over a video's frames where a head looks, and under them what it says of each."""
    from features_store.metadata import read_header

    read_header(store)
    from pipelines.explain.explain import explain as run

    result = run(checkpoint, store, video=video, out=out, root=root)
    if as_json:
        print_json(result)
    else:
        right = {True: "right", False: "wrong"}
        said = f", labelled {result.label}" if result.label else ""
        judged = "" if result.is_right is None else f": {right[result.is_right]}"
        typer.echo(f"{result.video_id}: {result.verdict}{said}{judged}")
        typer.echo(result.path)


def predict(
    checkpoint: CheckpointPath,
    videos: Annotated[list[Path], typer.Argument(help="Video files.", **VIDEO.checked)],
    weights: Annotated[
        Path | None,
        typer.Option(help="The backbone's weights, if it has no download.", **WEIGHTS.checked),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="The K likeliest classes of each.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or auto.", callback=require_device)
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Say what new videos show, end to end."""
    from features_store.errors import CoverageError
    from pipelines.training.evaluate import FailedVideo
    from pipelines.training.evaluate import predict as run

    found = run(checkpoint, videos, weights=weights, device=device)
    failed = [each for each in found if isinstance(each, FailedVideo)]
    predictions = [each for each in found if not isinstance(each, FailedVideo)]
    if as_json:
        said = [
            vars(each) | ({} if top is None else {"probs": each.likeliest(top)})
            for each in predictions
        ]
        print_json({"predictions": said, "failed": [vars(each) for each in failed]})
    else:
        rows = [row for each in predictions for row in _rows(each, top)]
        print_table(["video", "prediction", "probability"], rows)
        for each in failed:
            typer.echo(in_a_line(f"failed  {each.video}  [{each.reason}]  {each.error}"))
    if failed:
        raise CoverageError(f"{len(failed)} of {len(videos)} videos failed; see above")


def _rows(said: Prediction, top: int | None) -> list[list[str]]:
    """Return a video's line, or those of its likeliest classes."""
    if top is not None:
        return [[said.video, name, f"{prob:.3f}"] for name, prob in said.likeliest(top).items()]
    probs = ";".join(f"{prob:.3f}" for prob in said.predicted_probs)
    return [[said.video, said.prediction, probs]]


def demo(
    out: Annotated[
        Path,
        typer.Option(help="Folder for everything the demo makes.", **NEW_FOLDER.checked),
    ] = Path("cubereel-demo"),
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
