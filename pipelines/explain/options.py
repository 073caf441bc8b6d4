"""The options of `optimise-attention`: each field is a flag of the command line too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from features_store.errors import UsageError
from features_store.paths import FOLDER, NEW_FILE
from pipelines.machine.choices import require_device


@dataclass(frozen=True, kw_only=True)
class OptimiseOptions:
    """What is asked of `optimise-attention`, beside the checkpoint and the store."""

    video: Annotated[
        str | None,
        typer.Option(help="A video's id; by default all test videos that the head gets wrong."),
    ] = None
    label: Annotated[
        str | None, typer.Option(help="The correct label, by default the manifest's.")
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            help="Draw .png or .mp4: frames, own, random and optimised attention.",
            **NEW_FILE.checked,
        ),
    ] = None
    root: Annotated[
        Path | None,
        typer.Option(help="Where the videos are now, if they moved.", **FOLDER.checked),
    ] = None
    split: Annotated[
        str | None, typer.Option(help="A split of the manifest instead of the test videos.")
    ] = None
    seed: Annotated[int, typer.Option(help="Of the random attention that it starts from.")] = 0
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.", callback=require_device)] = (
        "auto"
    )

    def check(self) -> None:
        """Raise `UsageError` for options that do not go together."""
        if self.video is not None and self.split is not None:
            raise UsageError("`split` needs no `video`")
        of_a_video = {"label": self.label, "out": self.out, "root": self.root}
        for name, value in of_a_video.items():
            if self.video is None and value is not None:
                raise UsageError(f"`{name}` needs `video`")
