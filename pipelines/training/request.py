"""What is wrong with a table of heads to train, as far as it shows without torch or a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from features_store.errors import UsageError
from train.protocol.table import Row, folder_name, load_table

if TYPE_CHECKING:
    from features_store.metadata import StoreHeader

MOST_SEEDS = 10_000


def read_table(
    heads: Sequence[str], table: str | None, options: Sequence[tuple[str, str]]
) -> list[Row]:
    """Return the rows of a run: `heads`, then those of a table.

    Args:
        options: given to every head.

    Raises:
        UsageError: no such table, head or option.
    """
    rows = [Row.parse(head, options) for head in heads]
    return rows + (load_table(table, options) if table is not None else [])


def check_features(
    rows: Sequence[Row], header: StoreHeader, *, layers: Sequence[str], view: str
) -> None:
    """Raise `UsageError` for a layer or a view that the store does not have."""
    header.require_view(view)
    known = [header.layer(name).name for name in layers] or [each.name for each in header.layers]
    for row in rows:
        row.layer_names(known)


def check_request(rows: Sequence[Row], *, folds: int | None, seeds: int) -> None:
    """Raise `UsageError` for what cannot be; said before seconds are spent on importing."""
    if not rows or not 1 <= seeds <= MOST_SEEDS:
        raise UsageError(
            f"at least one head (`heads`, or those of a `table`) and 1 to {MOST_SEEDS} seeds are "
            "needed, got "
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
