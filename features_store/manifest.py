"""Manifests: what is said about videos. Read strictly, kept beside the features, never in them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from features_store.disk import write_atomically
from features_store.errors import ContractError
from features_store.records import check_id

FILE_NAME = "manifest.csv"
_TEXT = ("label", "group", "split")
_NUMBERS = ("start_seconds", "end_seconds")
COLUMNS = ("video_id", "path", *_TEXT, *_NUMBERS)


@dataclass(frozen=True)
class ManifestRow:
    """One video, or one time span of it. Empty text means "not said".

    Attributes:
        path: relative to the root of the source, or absolute.
        extra: further columns, kept as they are.
    """

    video_id: str
    path: str
    label: str = ""
    group: str = ""
    split: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


def span_id(path: str, start: float | None, end: float | None) -> str:
    """Return the id of a video, with its time span where it has one.

    >>> span_id("walk/a.mp4", 1.5, None), span_id("walk/a.mp4", None, None)
    ('walk/a.mp4@1.5-end', 'walk/a.mp4')
    """
    if start is None and end is None:
        return path
    return f"{path}@{start or 0:g}-{'end' if end is None else f'{end:g}'}"


def read_manifest(path: Path) -> list[ManifestRow]:
    """Read a manifest CSV; the column ``path`` is required, ids must be unique.

    Raises:
        ContractError: naming the line and the value that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise ContractError(f"manifest {path} cannot be read: {err}") from err
    reader = csv.DictReader(io.StringIO(text), strict=True)
    columns = reader.fieldnames or []
    if "path" not in columns:
        raise ContractError(f"manifest {path} has no column 'path'; its columns: {list(columns)}")
    rows: dict[str, ManifestRow] = {}
    try:
        for values in reader:
            row = _parse_row(values, f"manifest {path}, line {reader.line_num}")
            if row.video_id in rows:
                raise ContractError(
                    f"manifest {path}, line {reader.line_num}: video id {row.video_id!r} "
                    "stands there twice; give each row its own video_id or time span"
                )
            rows[row.video_id] = row
    except csv.Error as err:
        raise ContractError(f"manifest {path}, line {reader.line_num}: {err}") from err
    return list(rows.values())


def _parse_row(values: Mapping[str | None, str | None], where: str) -> ManifestRow:
    if None in values or None in values.values():
        raise ContractError(f"{where}: it has not as many fields as the header has columns")
    text = {str(name): (value or "").strip() for name, value in values.items()}
    path = text.pop("path")
    if not path:
        raise ContractError(f"{where}: the path is empty")
    start, end = (_seconds(text.pop(name, ""), f"{where}: {name}") for name in _NUMBERS)
    if start is not None and end is not None and start >= end:
        raise ContractError(f"{where}: the span from {start} to {end} s is empty")
    video_id = text.pop("video_id", "") or span_id(path.lstrip("/"), start, end)
    check_id(video_id)
    known = {name: text.pop(name, "") for name in _TEXT}
    return ManifestRow(video_id, path, **known, start_seconds=start, end_seconds=end, extra=text)


def _seconds(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ContractError(f"{where} must be a time in seconds, got {text!r}")
    return value


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write a manifest CSV, whole or not at all."""
    rows = list(rows)
    extra = sorted({name for row in rows for name in row.extra})
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*COLUMNS, *extra])
    for row in rows:
        spans = ["" if s is None else repr(s) for s in (row.start_seconds, row.end_seconds)]
        said = [row.video_id, row.path, row.label, row.group, row.split]
        writer.writerow([*said, *spans, *(row.extra.get(name, "") for name in extra)])
    write_atomically(path, buffer.getvalue().encode())


def read_store_manifest(store: Path) -> dict[str, ManifestRow]:
    """Return a store's manifest by id; empty when it has none."""
    path = store / FILE_NAME
    return {row.video_id: row for row in read_manifest(path)} if path.exists() else {}


def extend_store_manifest(store: Path, rows: Iterable[ManifestRow]) -> list[str]:
    """Add rows of videos that the store's manifest lacks; return the ids it says otherwise of.

    The store's manifest is edited by people, so what stands there stays.
    """
    stored = read_store_manifest(store)
    rows = list(rows)
    differing = [r.video_id for r in rows if stored.get(r.video_id, r) != r]
    merged = {row.video_id: row for row in rows} | stored
    if merged != stored:
        write_manifest(store / FILE_NAME, merged.values())
    return differing
