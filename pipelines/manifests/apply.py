"""`cubereel manifest apply`: what a new manifest says otherwise of a store's videos."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any

from features_store.checks import refuse_faults
from features_store.columns import COLUMNS
from features_store.errors import ContractError
from features_store.locking import lock_store
from features_store.manifest import (
    FILE_NAME,
    ManifestRow,
    changed_columns,
    manifest_columns,
    read_store_manifest,
    write_manifest,
)
from features_store.metadata import is_store, read_header
from features_store.store import Store
from pipelines.extraction.sources import read_source

STAYS = {"video_id", "path"}
SPAN = {"start_seconds", "end_seconds"}


@dataclass(frozen=True)
class Change:
    """One field of the store's manifest."""

    video_id: str
    column: str
    was: str
    becomes: str


@dataclass(frozen=True)
class ApplyReport:
    """What a manifest says otherwise.

    Attributes:
        manifest: of the store.
        columns: that the source has, of those that are taken over.
        num_rows: of the source that are of videos of the store.
        not_stored: ids of the source that are none of the store.
        num_not_said: videos of the store of which the source says nothing.
    """

    manifest: str
    columns: list[str]
    num_rows: int
    changes: list[Change]
    not_stored: list[str]
    num_not_said: int
    written: bool


def apply(
    source: Path, store: Path, *, root: Path | None = None, write: bool = False
) -> ApplyReport:
    """Compare a source with a store's manifest, and with `write` take over what it says.

    Labels, groups, splits and further columns, as far as the source has these columns; a field that
    is empty there becomes empty. Videos of which it says nothing stay as they are. Time spans
    become those of what was extracted.

    Args:
        root: that ids of the source are relative to, as at extraction.

    Raises:
        ContractError: no video of the source is one of the store.
        BusyError: somebody else writes the store.
    """
    header = read_header(store)
    with Store(store) as opened:
        ids = {*opened.ids, *opened.manifest}
        roots = [root] if root is not None else [None, *(Path(s.root) for s in header.sources)]
        rows, columns = _read(source, roots, ids, store)
        if columns & SPAN:
            rows = [_as_extracted(row, opened) for row in rows]
    taken = sorted(columns - STAYS)
    if not write:
        return _report(store, ids, rows, taken)[0]
    with lock_store(store):
        report, merged = _report(store, ids, rows, taken)
        refuse_faults(list(merged.values()), where=source)
        if report.changes:
            write_manifest(store / FILE_NAME, merged.values())
    return replace(report, written=True)


def _read(
    source: Path,
    roots: Sequence[Path | None],
    ids: Set[str],
    store: Path,
) -> tuple[list[ManifestRow], frozenset[str]]:
    """Return rows and columns of a source, its ids by the first root with which any is stored."""
    if is_store(source):
        rows = list(read_store_manifest(source).values())
        return rows, frozenset(manifest_columns(source / FILE_NAME))
    first: ManifestRow | None = None
    for root in roots:
        try:
            found = read_source(source, root=root)
        except ContractError:
            if first is None:
                raise
            continue  # its videos lie outside the roots that the store knows
        if any(row.video_id in ids for row in found.rows):
            return list(found.rows), found.columns
        first = first or found.rows[0]
    assert first is not None
    raise ContractError(
        f"{source} says nothing of a video of {store}: its first is {first.video_id!r}, the "
        f"store's {min(ids, default='')!r}; give the `root` of the extraction, or a column "
        "video_id"
    )


def _as_extracted(row: ManifestRow, store: Store) -> ManifestRow:
    """Return a row with the time span that the store has of its video."""
    if row.video_id not in store:
        return row
    record = store.video(row.video_id)
    said = (record.start_seconds, record.end_seconds)
    start, end = (None if isnan(seconds) else seconds for seconds in said)
    return replace(row, start_seconds=start, end_seconds=end)


def _report(
    store: Path, ids: Set[str], rows: Sequence[ManifestRow], columns: list[str]
) -> tuple[ApplyReport, dict[str, ManifestRow]]:
    """Return the report, and the rows of the store's manifest as they become."""
    merged, changes = read_store_manifest(store), []
    known = [row for row in rows if row.video_id in ids]
    for row in known:
        old = merged.get(row.video_id, ManifestRow(row.video_id, row.path))
        if said := changed_columns(old, row, columns):
            changes += [Change(row.video_id, name, *texts) for name, texts in said.items()]
            merged[row.video_id] = _with(old, row, said)
    report = ApplyReport(
        manifest=str(store / FILE_NAME),
        columns=columns,
        num_rows=len(known),
        changes=changes,
        not_stored=[row.video_id for row in rows if row.video_id not in ids],
        num_not_said=len(ids - {row.video_id for row in rows}),
        written=False,
    )
    return report, merged


def _with(old: ManifestRow, new: ManifestRow, columns: Collection[str]) -> ManifestRow:
    """Return a row in which some columns are those of another one."""
    own: dict[str, Any] = {name: getattr(new, name) for name in columns if name in COLUMNS}
    further = {name: new.extra.get(name, "") for name in columns if name not in COLUMNS}
    return replace(old, **own, extra={**old.extra, **further})
