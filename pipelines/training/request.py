"""What is wrong with a table of heads to train, as far as it shows without torch or a store."""

from __future__ import annotations

from collections.abc import Sequence

from features_store.errors import UsageError
from train.protocol.grid import Row, folder_name, load_grid


def read_table(
    heads: Sequence[str], grid: str | None, options: Sequence[tuple[str, str]]
) -> list[Row]:
    """Return the rows of a table: `heads`, then those of a grid.

    Args:
        options: given to every head.

    Raises:
        UsageError: no such grid, head or option.
    """
    rows = [Row.parse(head, options) for head in heads]
    return rows + (load_grid(grid, options) if grid is not None else [])


def check_request(rows: Sequence[Row], *, folds: int | None, seeds: int) -> None:
    """Raise `UsageError` for what cannot be; said before seconds are spent on importing."""
    if not rows or seeds < 1:
        raise UsageError(
            "at least one head (`heads`, or those of a `grid`) and one seed are needed, got "
            f"{len(rows)} heads, {seeds} `seeds`"
        )
    if folds is not None and folds < 2:
        raise UsageError(
            f"`folds` must be at least 2, got {folds}; without it the column 'split' of the "
            "manifest says what is tested"
        )
    for row in rows:
        row.choice.check()
    folders = [folder_name(row.label) for row in rows]
    if double := next((f for f in folders if folders.count(f) > 1), None):
        raise UsageError(
            f"two heads of this table are called {double!r}; each may stand there once"
        )
