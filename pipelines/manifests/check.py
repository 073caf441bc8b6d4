"""`cubereel manifest validate`: all that is wrong with a manifest, not only what is first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from features_store.checks import doubts_of, faults_of
from features_store.errors import ContractError, UsageError
from features_store.labels import split_label
from features_store.manifest import SPLITS, ManifestLine, scan_manifest
from features_store.store import Store
from pipelines.extraction.sources import read_source
from pipelines.manifests.described import locate


@dataclass(frozen=True)
class Problem:
    """What is wrong, and on which line unless it is on none."""

    line: int | None
    message: str


@dataclass(frozen=True)
class ValidateReport:
    """What is wrong with a manifest, and how many of its rows do not say what they may.

    Attributes:
        doubts: what may be a slip.
    """

    manifest: str
    num_rows: int
    problems: list[Problem]
    doubts: list[str]
    unsaid: dict[str, int]


def validate(path: Path) -> ValidateReport:
    """Check every line of a manifest, and the manifest against its files or its store.

    Raises:
        ContractError: it is no table with a column ``path``.
    """
    manifest, store = locate(path)
    lines = scan_manifest(manifest)
    found = [Problem(line.number, text) for line in lines for text in line.problems]
    found += _check_columns(lines)
    rows = [line.row for line in lines if line.row]
    found += [Problem(None, fault) for fault in faults_of(rows)]
    if store is None:
        found += _check_files(manifest, lines, is_sound=not found)
    else:
        found += _check_stored(store, lines)
    return ValidateReport(
        manifest=str(manifest),
        num_rows=len(lines),
        problems=sorted(found, key=lambda p: (p.line is None, p.line or 0)),
        doubts=doubts_of(rows),
        unsaid={
            name: sum(1 for row in rows if not getattr(row, name))
            for name in ("label", "group", "split")
        },
    )


def _check_columns(lines: Sequence[ManifestLine]) -> Iterator[Problem]:
    for number, row, _ in lines:
        if row and row.split not in ("", *SPLITS):
            yield Problem(number, f"split {row.split!r} is none of {', '.join(SPLITS)} (or empty)")
        try:
            split_label(row.label if row else "")
        except ContractError as err:
            yield Problem(number, str(err))


def _check_files(
    manifest: Path, lines: Sequence[ManifestLine], *, is_sound: bool
) -> Iterator[Problem]:
    for number, row, _ in lines:
        if row and not (file := manifest.parent / row.path).is_file():
            yield Problem(number, f"there is no file {str(file)!r}")
    if is_sound:
        try:
            read_source(manifest)
        except (ContractError, UsageError) as err:
            yield Problem(None, str(err))


def _check_stored(path: Path, lines: Sequence[ManifestLine]) -> Iterator[Problem]:
    with Store(path) as store:
        stored = set(store.ids)
    said = {row.video_id for _, row, _ in lines if row}
    for number, row, _ in lines:
        if row and row.video_id not in stored:
            yield Problem(number, f"video {row.video_id!r} is not in the store")
        elif row and not row.label:
            yield Problem(number, f"stored video {row.video_id!r} has no label")
    for video_id in sorted(stored - said):
        yield Problem(None, f"stored video {video_id!r} has no row")
