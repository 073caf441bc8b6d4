"""The options of `train`: each field is a flag of the command line too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from features_store.paths import CONFIG, NEW_FOLDER, WEIGHTS
from features_store.views import View
from pipelines.executors.registry import PLACES
from pipelines.machine.choices import require_device
from train.data.kinds import Aggregate, ScheduleKind, WindowKind

# Those of `train.fitting.config.TrainConfig`, under the same names; not given, its defaults hold.
OF_TRAINING = (
    "multi_label", "layers", "choose_layer", "view", "windows", "clip_frames", "frame_stride",
    "window_stride", "epochs", "batch_size", "learning_rates", "weight_decays", "optimiser",
    "class_weights", "schedule", "clip_gradients", "budget", "patience", "split_seed", "order_seed",
    "inner_folds", "aggregate", "last_n",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What is asked of `train`, beside the store."""

    heads: Annotated[
        Sequence[str],
        typer.Option(
            "--head",
            help="NAME or NAME:option=value,…; repeat to compare. See 'cubereel list heads'. "
            "A head of your own is package.module:MyHead.",
        ),
    ] = ()
    table: Annotated[
        str | None,
        typer.Option(help="Heads of a whole table: a .toml file, or see 'cubereel list tables'."),
    ] = None
    settings: Annotated[
        Sequence[str], typer.Option("--set", help="name=value, an option of every head.")
    ] = ()
    folds: Annotated[
        int | None, typer.Option(help="Cross-validate over groups instead of the split column.")
    ] = None
    seeds: Annotated[int, typer.Option(help="Fits per fold.")] = 1
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder; by default a dated one. Fits that it holds are kept.",
            **NEW_FOLDER.checked,
        ),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file whose keys are flags below, without dashes; flags win.",
            **CONFIG.checked,
        ),
    ] = None
    multi_label: Annotated[
        bool | None,
        typer.Option("--multi-label", help="Labels name any number of classes: 'sit;talk'."),
    ] = None
    layers: Annotated[
        Sequence[str], typer.Option("--layer", help="Layer; repeat. The last is the top.")
    ] = ()
    choose_layer: Annotated[
        bool | None,
        typer.Option(
            "--choose-layer", help="Let validation choose one of the layers; else all are read."
        ),
    ] = None
    view: Annotated[
        View | None, typer.Option(help="What of the picture, of those stored [center].")
    ] = None
    windows: Annotated[WindowKind | None, typer.Option(help="How videos are cut into clips.")] = (
        None
    )
    clip_frames: Annotated[int | None, typer.Option(help="Frames of a clip [16].")] = None
    frame_stride: Annotated[int | None, typer.Option(help="Rows from frame to frame [1].")] = None
    window_stride: Annotated[int | None, typer.Option(help="Rows from clip to clip [1].")] = None
    epochs: Annotated[int | None, typer.Option(help="Passes over the data [15].")] = None
    batch_size: Annotated[int | None, typer.Option(help="Clips per step [32].")] = None
    learning_rates: Annotated[
        Sequence[float],
        typer.Option("--lr", help="Learning rate; repeat to let validation choose."),
    ] = ()
    weight_decays: Annotated[
        Sequence[float],
        typer.Option("--weight-decay", help="Weight decay; repeat to let validation choose."),
    ] = ()
    optimiser: Annotated[str | None, typer.Option(help="adam or adamw [adamw].")] = None
    class_weights: Annotated[
        bool | None, typer.Option(help="Let every class count the same [yes].")
    ] = None
    schedule: Annotated[
        ScheduleKind | None, typer.Option(help="How the rate goes on in a fit [cosine].")
    ] = None
    clip_gradients: Annotated[
        float | None, typer.Option(help="Largest norm of a step's gradients.")
    ] = None
    budget: Annotated[
        float | None,
        typer.Option(
            help="Core-seconds for all fits of a head; the number of epochs follows from it."
        ),
    ] = None
    patience: Annotated[
        int | None,
        typer.Option(
            help="Let validation choose the number of epochs too: a fit ends after so many that "
            "were no better."
        ),
    ] = None
    split_seed: Annotated[int | None, typer.Option(help="Of the shuffle that makes folds [0].")] = (
        None
    )
    order_seed: Annotated[
        int | None, typer.Option(help="Of the order of batches, for all fits [0].")
    ] = None
    inner_folds: Annotated[int | None, typer.Option(help="Rounds of validation [1].")] = None
    aggregate: Annotated[Aggregate | None, typer.Option(help="Of a video's clips [mean].")] = None
    last_n: Annotated[int | None, typer.Option(help="Average the last n steps only.")] = None
    weights: Annotated[
        Path | None,
        typer.Option(
            help="The backbone's weights, for heads that train its last layers.",
            **WEIGHTS.checked,
        ),
    ] = None
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Worker processes that fit side by side; else one a core where that pays.",
        ),
    ] = None
    memory: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Gigabytes of clips that are kept in memory, else read as needed; by default a "
            "third of what there is.",
        ),
    ] = None
    cluster: Annotated[str, typer.Option(help=f"Where they run: {', '.join(PLACES)}.")] = "local"
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.", callback=require_device)] = (
        "auto"
    )
    revision: Annotated[
        str | None,
        typer.Option(help="Of the store, by its first digits, as results.json has it; else now."),
    ] = None

    def of_training(self) -> dict[str, Any]:
        """Return the options of `TrainConfig` that were given."""
        values = {name: getattr(self, name) for name in OF_TRAINING}
        return {name: value for name, value in values.items() if value not in (None, (), [])}
