"""`cubereel doctor`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from features_store.paths import FOLDER
from pipelines.cli.arguments import AsJson
from pipelines.cli.flags import with_flags
from pipelines.cli.show import print_json


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("doctor")(doctor)


def doctor(
    folder: Annotated[
        Path,
        typer.Option(help="Where a store would be written; its disk is timed.", **FOLDER.checked),
    ] = Path(),
    as_json: AsJson = False,
) -> None:
    """Check the installation and the machine. Needs neither network nor GPU."""
    from features_store.errors import ContractError, MachineError
    from pipelines.measure.doctor import examine

    checks = [replace(check, found=with_flags(check.found)) for check in examine(folder)]
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            typer.echo(f"{check.status:<8} {check.name:<12} {check.found}")
            if check.advice:
                typer.echo(f"{'':<21} → {check.advice}")
    for status, error, what in (
        ("failed", MachineError, "failed"),
        ("differs", ContractError, "gave other features than recorded"),
    ):
        names = [check.name for check in checks if check.status == status]
        if names:
            raise error(f"{', '.join(names)} {what}; the lines above say what to do")
