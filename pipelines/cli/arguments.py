"""Arguments that several verbs share; what must lie at a path is checked before anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from features_store.paths import CHECKPOINT, NEW_FOLDER, RUN, SOURCE, STORE

Source = Annotated[
    Path,
    typer.Argument(
        help="Folder of class folders, manifest CSV, list of paths, a video, or a quoted pattern.",
        **SOURCE.checked,
    ),
]
StorePath = Annotated[Path, typer.Argument(help="A store.", **STORE.checked)]
StorePaths = Annotated[list[Path], typer.Argument(help="Stores of the same spec.", **STORE.checked)]
NewStore = Annotated[
    Path,
    typer.Option(help="The store; made, or extended where it was left.", **NEW_FOLDER.checked),
]
CheckpointPath = Annotated[
    Path,
    typer.Argument(help="A checkpoint of a run folder (.json).", **CHECKPOINT.checked),
]
RunFolder = Annotated[
    Path,
    typer.Argument(help="A run folder; it need not be finished.", **RUN.checked),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
