"""Messages as a command line says them: a library names `batch_size`, people type --batch-size."""

from __future__ import annotations

import logging
import re
from functools import cache
from typing import Any

import typer

from pipelines.cli.app import app

NAME = re.compile(r"`([a-z_]+)`")


def with_flags(message: str) -> str:
    """Return a message in which every option that stands in back quotes is a flag.

    What is no option of any verb stays as it is.
    """
    return NAME.sub(lambda found: _flags().get(found[1], found[0]), message)


class FlagFormatter(logging.Formatter):
    """Log lines, likewise."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return with_flags(super().format(record))


@cache
def _flags() -> dict[str, str]:
    flags: dict[str, str] = {}
    commands: list[Any] = [typer.main.get_command(app)]
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        flags |= {p.name: p.opts[0] for p in command.params if p.opts[0].startswith("--")}
    return flags
