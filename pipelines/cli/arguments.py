"""Arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    Path, typer.Argument(help="Folder of class folders, manifest CSV, or a list of paths.")
]
StorePath = Annotated[Path, typer.Argument(help="A store.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
