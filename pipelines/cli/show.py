"""Results on stdout: tables for people, JSON for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import typer
from rich.cells import cell_len

from pipelines.terminal import in_a_line

OF_INTERVALS = (
    "s.e. and intervals are over groups, of these fits: how another training would differ is not "
    "in them"
)


def print_json(result: Any) -> None:
    """Print a dataclass, or plain values, as one JSON document; what is not finite is null."""
    document = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
    typer.echo(json.dumps(_plain(document), indent=1))


def print_result(result: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Print a result as one JSON document, or the lines that say it to people."""
    if as_json:
        print_json(result)
        return
    for line in lines:
        typer.echo(in_a_line(line))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | Iterator):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns aligned: the first to the left, the others to the right."""
    for line in table_lines(columns, rows):
        typer.echo(line)


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table, aligned likewise."""
    table = [[in_a_line(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(cell_len(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        cells = [
            padded(cell, width, to_the_right=i > 0)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def padded(text: str, width: int, *, to_the_right: bool = False) -> str:
    """Return a text with spaces up to a width as a terminal shows it.

    >>> padded("行走", 5), padded("walk", 5, to_the_right=True)
    ('行走 ', ' walk')
    """
    spaces = " " * (width - cell_len(text))
    return spaces + text if to_the_right else text + spaces


def number(value: float | None) -> str:
    """Return a score with three digits, or a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def signed(difference: float, interval: Sequence[float] | None) -> str:
    """Return a difference with its interval.

    >>> signed(0.047, (0.003, 0.088)), signed(0.047, None)
    ('+0.047 [+0.003, +0.088]', '+0.047 –')
    """
    return f"{difference:+.3f} {bracketed(interval)}"


def bracketed(interval: Sequence[float] | None) -> str:
    """Return an interval, or a dash where there is none."""
    return "–" if interval is None else f"[{interval[0]:+.3f}, {interval[1]:+.3f}]"


def format_bytes(num_bytes: float) -> str:
    """Return a size with three digits and a decimal unit.

    >>> format_bytes(602_112_000)
    '602 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


def format_seconds(seconds: float) -> str:
    """Return a time as people say it.

    >>> format_seconds(8.31), format_seconds(5400), format_seconds(400_000)
    ('8.3 s', '1 h 30 min', '4 d 15 h')
    """
    if seconds < 100:
        return f"{seconds:.1f} s"
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} {seconds % size // smaller:.0f} {name}"
    return f"{seconds / 60:.0f} min"
