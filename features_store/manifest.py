"""Manifests: what is said about videos. Read strictly, kept beside the features, never in them."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from features_store.columns import COLUMNS, check_header
from features_store.errors import ContractError, UsageError
from features_store.format.collector import paused_collector
from features_store.format.outputs import write_atomically
from features_store.format.records import check_id
from features_store.format.safety import check_own
from features_store.tables import parse_table, table_text
from features_store.text_files import read_text

FILE_NAME = "manifest.csv"
MAX_BYTES, MAX_LINES = 2**27, 2**20
SPLITS = ("train", "val", "validation", "test")  # what the column split may say; or nothing


@dataclass(frozen=True)
class ManifestRow:
    """One video, or one time span of it. Empty text means "not said".

    Ids, paths and further columns are kept to the character, since file names may begin and end
    with white space. That of a label, a group or a split is no part of it and is taken off.

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

    def __post_init__(self) -> None:
        for name in ("label", "group", "split"):
            said = getattr(self, name)
            if (stripped := said.strip()) != said:
                object.__setattr__(self, name, stripped)


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


def is_csv(path: Path) -> bool:
    """Whether a path is named as a manifest is."""
    return path.suffix.lower() == ".csv"


def manifest_columns(path: Path) -> list[str]:
    """Return the names of a manifest's columns, as its header has them."""
    return next(parse_table(_read_text(path)), [])


@paused_collector()
def scan_manifest(path: Path) -> list[ManifestLine]:
    """Read every line of a manifest CSV and say all that is wrong, not only what is first.

    Raises:
        ContractError: it is no table with a column ``path``.
    """
    reader = parse_table(_read_text(path))
    lines: list[ManifestLine] = []
    line_of: dict[str, int] = {}
    try:
        columns = next(reader, [])
        check_header(path, columns)
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
    text = read_text(path, what="manifest", most_bytes=MAX_BYTES)
    if (num_lines := text.count("\n")) > MAX_LINES:
        raise ContractError(f"manifest {path} has {num_lines} lines, more than {MAX_LINES}")
    return text


def _parse_fields(columns: list[str], fields: list[str]) -> tuple[ManifestRow | None, list[str]]:
    """Return the row, or None and all that is wrong with it."""
    if len(fields) != len(columns):
        return None, [
            f"it has not as many fields ({len(fields)}) as the header has columns ({len(columns)})"
        ]
    text = dict(zip(columns, fields, strict=True))
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
    if not text.strip():
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
    write_atomically(path, manifest_bytes(rows))


def manifest_bytes(rows: Iterable[ManifestRow]) -> bytes:
    """Return the manifest CSV of some videos."""
    rows = list(rows)
    extra = sorted({name for row in rows for name in row.extra})
    table = [[*COLUMNS, *extra]]
    for row in rows:
        text = _texts(row)
        table.append([row.video_id, *(text.get(name, "") for name in (*COLUMNS[1:], *extra))])
    return table_text(table).encode()


def write_splits(path: Path, splits: Sequence[str]) -> None:
    """Fill the column ``split``, in the order of the rows; every other field stays as it is.

    Raises:
        ContractError: the manifest has another number of rows by now.
    """
    header, *lines = filter(None, parse_table(_read_text(path)))
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
    write_atomically(path, table_text([header, *lines]).encode())


def read_store_manifest(store: Path) -> dict[str, ManifestRow]:
    """Return a store's manifest by id; empty when it has none."""
    path = store / FILE_NAME
    check_own(path)
    return {row.video_id: row for row in read_manifest(path)} if path.exists() else {}


def extend_store_manifest(
    store: Path, rows: Iterable[ManifestRow], *, columns: Collection[str] | None = None
) -> list[str]:
    """Add rows of videos that the store's manifest lacks; return the ids it says otherwise of.

    The store's manifest is edited by people, so what stands there stays.

    Args:
        columns: that the rows are from; on others they say nothing. None: all of them.
    """
    stored = read_store_manifest(store)
    rows = list(rows)
    differing = [
        row.video_id
        for row in rows
        if (old := stored.get(row.video_id, row)) != row and changed_columns(old, row, columns)
    ]
    merged = {row.video_id: row for row in rows} | stored
    if merged != stored:
        write_manifest(store / FILE_NAME, merged.values())
    return differing


def changed_columns(
    old: ManifestRow, new: ManifestRow, columns: Collection[str] | None = None
) -> dict[str, tuple[str, str]]:
    """Return what two rows say otherwise, by column: the old and the new text.

    Args:
        columns: to be looked at; None is all but the id. A column that is not there is empty.
    """
    texts = [_texts(row) for row in (old, new)]
    names = dict.fromkeys(name for text in texts for name in text)
    said = {name: (texts[0].get(name, ""), texts[1].get(name, "")) for name in names}
    return {
        name: (was, now)
        for name, (was, now) in said.items()
        if was != now and (columns is None or name in columns)
    }


def _texts(row: ManifestRow) -> dict[str, str]:
    """Return a row as the fields that are written, without its id."""
    spans = ["" if s is None else repr(s) for s in (row.start_seconds, row.end_seconds)]
    said = [row.path, row.label, row.group, row.split, *spans]
    return dict(zip(COLUMNS[1:], said, strict=True)) | dict(row.extra)
