"""Manifests: what is said about videos. Read strictly, kept beside the features, never in them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from features_store.errors import ContractError, UsageError
from features_store.format.collector import paused_collector
from features_store.format.disk import write_atomically
from features_store.format.records import check_id
from features_store.format.safety import check_own

FILE_NAME = "manifest.csv"
COLUMNS = ("video_id", "path", "label", "group", "split", "start_seconds", "end_seconds")
SPLITS = ("train", "val", "validation", "test")  # what the column split may say; or nothing


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


class ManifestLine(NamedTuple):
    """One line of a manifest: its row unless it cannot be understood, and what is wrong."""

    number: int
    row: ManifestRow | None
    problems: tuple[str, ...]


def span_id(path: str, start: float | None, end: float | None) -> str:
    """Return the id of a video, with its time span where it has one.

    >>> span_id("walk/a.mp4", 1.5, None), span_id("walk/a.mp4", None, None)
    ('walk/a.mp4@1.5-end', 'walk/a.mp4')
    """
    if start is None and end is None:
        return path
    return f"{path}@{start or 0:g}-{'end' if end is None else f'{end:g}'}"


def side_of(split: str) -> str:
    """Return the side that the column ``split`` means; ``validation`` is another word for ``val``.

    >>> side_of("validation"), side_of("test"), side_of("")
    ('val', 'test', '')
    """
    return "val" if split == "validation" else split


def read_manifest(path: Path) -> list[ManifestRow]:
    """Read a manifest CSV; the column ``path`` is required, ids must be unique.

    Raises:
        ContractError: naming the line and the value that is wrong.
    """
    rows = []
    for line in scan_manifest(path):
        for problem in line.problems:
            raise ContractError(f"manifest {path}, line {line.number}: {problem}")
        rows += [line.row] if line.row else []
    return rows


@paused_collector()
def scan_manifest(path: Path) -> list[ManifestLine]:
    """Read every line of a manifest CSV and say all that is wrong, not only what is first.

    Raises:
        ContractError: it is no table with a column ``path``.
    """
    reader = csv.reader(io.StringIO(_read_text(path)), strict=True)
    lines: list[ManifestLine] = []
    line_of: dict[str, int] = {}
    try:
        columns = next(reader, [])
        _check_header(path, columns)
        for fields in filter(None, reader):
            row, problems = _parse_fields(columns, fields)
            if row and row.video_id in line_of:
                problems.append(
                    f"video id {row.video_id!r} stands there twice (line "
                    f"{line_of[row.video_id]}); give each row its own video_id or time span"
                )
            elif row:
                line_of[row.video_id] = reader.line_num
            lines.append(ManifestLine(reader.line_num, row, tuple(problems)))
    except csv.Error as err:
        lines.append(ManifestLine(reader.line_num, None, (str(err),)))
    return lines


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise ContractError(f"manifest {path} cannot be read: {err}") from err


def _check_header(path: Path, columns: list[str]) -> None:
    if "path" not in columns:
        raise ContractError(f"manifest {path} has no column 'path'; its columns: {columns}")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ContractError(f"manifest {path} has the column {twice[0]!r} twice; remove one")


def _parse_fields(columns: list[str], fields: list[str]) -> tuple[ManifestRow | None, list[str]]:
    """Return the row, or None and all that is wrong with it."""
    if len(fields) != len(columns):
        return None, [
            f"it has not as many fields ({len(fields)}) as the header has columns ({len(columns)})"
        ]
    text = dict(zip(columns, map(str.strip, fields), strict=True))
    path = text.pop("path")
    problems = [] if path else ["the path is empty"]
    start = _seconds(text.pop("start_seconds", ""), "start_seconds", problems)
    end = _seconds(text.pop("end_seconds", ""), "end_seconds", problems)
    if start is not None and end is not None and start >= end:
        problems.append(f"the span from {start} to {end} s is empty")
    video_id = text.pop("video_id", "") or span_id(path.lstrip("/"), start, end)
    if path or video_id:
        try:
            check_id(video_id)
        except UsageError as err:
            problems.append(str(err))
    label, group, split = text.pop("label", ""), text.pop("group", ""), text.pop("split", "")
    row = ManifestRow(video_id, path, label, group, split, start, end, extra=text)
    return None if problems else row, problems


def _seconds(text: str, name: str, problems: list[str]) -> float | None:
    """Return a time, None where there is none; what is none is added to `problems`."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if 0 <= value < float("inf"):
        return value
    problems.append(f"{name} must be a time in seconds, got {text!r}")
    return None


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write a manifest CSV, whole or not at all."""
    rows = list(rows)
    extra = sorted({name for row in rows for name in row.extra})
    table = [[*COLUMNS, *extra]]
    for row in rows:
        spans = ["" if s is None else repr(s) for s in (row.start_seconds, row.end_seconds)]
        said = [row.video_id, row.path, row.label, row.group, row.split]
        table.append([*said, *spans, *(row.extra.get(name, "") for name in extra)])
    _write_table(path, table)


def write_splits(path: Path, splits: Sequence[str]) -> None:
    """Fill the column ``split``, in the order of the rows; every other field stays as it is.

    Raises:
        ContractError: the manifest has another number of rows by now.
    """
    header, *lines = filter(None, csv.reader(io.StringIO(_read_text(path)), strict=True))
    if len(lines) != len(splits):
        raise ContractError(
            f"manifest {path} changed meanwhile: {len(lines)} rows, {len(splits)} before; run again"
        )
    if "split" not in header:
        header.append("split")
    column = header.index("split")
    for fields, split in zip(lines, splits, strict=True):
        # A slice, because a row may end where the new column begins.
        fields[column:] = [split, *fields[column + 1 :]]
    _write_table(path, [header, *lines])


def _write_table(path: Path, table: Iterable[Sequence[str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(table)
    write_atomically(path, buffer.getvalue().encode())


def read_store_manifest(store: Path) -> dict[str, ManifestRow]:
    """Return a store's manifest by id; empty when it has none."""
    path = store / FILE_NAME
    check_own(path)
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
