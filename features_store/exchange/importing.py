"""`cubereel store import` as one function: features in, store out, safe to run again."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from features_store.errors import ContractError, StoreError, UsageError
from features_store.exchange.export_folder import read_export
from features_store.exchange.features import Features, ImportedVideo
from features_store.exchange.formats.registry import find_format
from features_store.exchange.imported_spec import identify
from features_store.exchange.options import OF_FORMATS, ImportOptions
from features_store.format.layout import split_units
from features_store.manifest import (
    MAX_BYTES,
    MAX_LINES,
    extend_store_manifest,
    manifest_bytes,
)
from features_store.metadata import StoreHeader, is_store, read_header
from features_store.paths import FEATURES
from features_store.plain import PlainError, from_plain, to_plain
from features_store.runs import new_run_id, write_run
from features_store.session import StoreSession
from features_store.sources import TERMS, describe, new_source, same_source
from features_store.spec import flatten

_SAID: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("fps", "feat_stride"), (int, float)),
    **dict.fromkeys(("feat_num_frames", "grid_size", "videos"), (int,)),
}


@dataclass(frozen=True)
class Terms:
    """What `export.json` says of the videos of one source."""

    licence: str | None
    origin: str | None
    citation: str | None


@dataclass
class ImportReport:
    """What one run of `import_features` did."""

    store: str
    num_videos: int
    num_imported: int = 0
    num_done_before: int = 0
    num_frames: int = 0
    warnings: list[str] = field(default_factory=list)


def import_features(
    source: str | Path,
    out: str | Path,
    *,
    kind: str,
    options: ImportOptions = ImportOptions(),  # noqa: B008 (immutable)
) -> ImportReport:
    """Make or extend a store from features; see `cubereel store import --help`.

    Everything is checked before anything is written, down to the values of foreign features.

    Args:
        kind: of the format.

    Raises:
        UsageError: an option does not exist or does not fit.
        ContractError: the source breaks the format's promises, or is not safe to read.
    """
    layout = find_format(kind)
    source, out = Path(source), Path(out)
    FEATURES.require(source)
    said = _read_said(source, kind)
    options = _complete(options, said, kind)
    with layout.open_features(source, options) as features:
        if source.is_dir():
            _require_all(features, said.get("videos"), source)
        given = {name: getattr(options, name) or None for name in TERMS}
        if features.header is None:
            header, features = identify(features, name=options.name, dtype=options.dtype)
            source_terms = new_source("", **_complete_terms(given, said.get("terms", [])))
            header = replace(header, sources=(source_terms,))
        elif options.name or options.dtype:
            raise UsageError("the source says its own spec and dtype; leave out `name` and `dtype`")
        else:  # its records say which video is from which source
            sources = describe(features.header.sources, None, given)
            header = replace(features.header, sources=sources)
        if out.resolve() == source.resolve():
            raise UsageError(f"{source} cannot become a store in its own place; give another `out`")
        _check_texts(features, header, source)
        return _write(features, header, out)


def _check_texts(features: Features, header: StoreHeader, source: Path) -> None:
    """Raise `ContractError` for texts that cannot be written, or not be read again."""
    rows: list[Any] = [asdict(row) for row in features.manifest]
    if len(rows) >= MAX_LINES:
        raise ContractError(
            f"{source} is of {len(rows)} videos, and a manifest has at most {MAX_LINES} lines; "
            "divide it over several stores"
        )
    for where in [*rows, asdict(header)]:
        for name, value in flatten(where).items():
            try:
                too_long = len((name + str(value)).encode()) > csv.field_size_limit()
            except UnicodeEncodeError as err:
                raise ContractError(f"{source}: {name} {value!r}: {err}") from None
            if too_long and "video_id" in where:
                raise ContractError(
                    f"{source}: the {name} of {where['video_id']!r} is too long for a manifest"
                )
    if (num_bytes := len(manifest_bytes(features.manifest))) > MAX_BYTES:
        raise ContractError(
            f"{source}: what is said of its videos has {num_bytes} bytes, and a manifest at most "
            f"{MAX_BYTES}; divide it over several stores"
        )


def _complete_terms(given: dict[str, str | None], said: Sequence[Terms]) -> dict[str, str | None]:
    """Return what the user says of the videos, else what the export says of all."""
    # What an export says of several sources is true of none of its videos alone.
    if len(said) != 1:
        return given
    return {name: given[name] or getattr(said[0], name) for name in TERMS}


def _complete(given: ImportOptions, said: Mapping[str, Any], kind: str) -> ImportOptions:
    """Fill in what an export of ours says; refuse what the format does not take."""
    taken = find_format(kind).options
    for name in OF_FORMATS:
        if getattr(given, name) is not None and name not in taken:
            raise UsageError(
                f"format {kind!r} takes no `{name}`; it takes: {', '.join(taken) or 'none'}"
            )
    missing: dict[str, Any] = {n: said.get(n) for n in taken if getattr(given, n) is None}
    return replace(given, **missing)


def _require_all(features: Features, num_videos: int | None, source: Path) -> None:
    found = len(features.videos)
    if num_videos not in (None, found):
        raise ContractError(
            f"{source} was exported with {num_videos} videos and holds {found}; export it again, "
            "or remove its export.json to import what there is"
        )


def _read_said(source: Path, kind: str) -> dict[str, Any]:
    """Return what an export of ours says in `export.json`, with types checked."""
    folder = source if source.is_dir() else source.parent
    said = read_export(folder)
    files = said.get("sources")
    if not said or not (source.is_dir() or (isinstance(files, list) and source.name in files)):
        return {}
    if said.get("format") != kind:
        raise UsageError(
            f"{folder} holds an export in format {said.get('format')!r}; "
            f"give `kind` {said.get('format')}, not {kind}"
        )
    if said.get("finished") is not True:
        raise ContractError(f"{folder} is an unfinished export; run the same export again")
    for name, kinds in _SAID.items():
        value = said.get(name)
        if value is None:
            continue
        if type(value) not in kinds or not 0 < value < 2**53:
            raise ContractError(
                f"{folder}/export.json: {name!r} is {value!r}, "
                f"expected {' or '.join(k.__name__ for k in kinds)}"
            )
    try:
        terms = from_plain(list[Terms], said.get("terms", []))
    except PlainError as err:
        raise ContractError(f"{folder}/export.json: the terms cannot be understood: {err}") from err
    return {name: said.get(name) for name in _SAID} | {"terms": terms}


def _write(features: Features, header: StoreHeader, out: Path) -> ImportReport:
    run_id = new_run_id()
    if features.header is None and is_store(out):
        stored = read_header(out).sources
        header = replace(header, sources=tuple(same_source(stored, s) for s in header.sources))
    report = ImportReport(str(out), len(features.videos), warnings=list(features.warnings))
    with StoreSession(out, header, run_id=run_id) as writer:
        missing = [video for video in features.videos if not _is_there(writer, video)]
        if differing := extend_store_manifest(out, features.manifest):
            report.warnings.append(
                f"the source says otherwise of {len(differing)} videos than {out}/manifest.csv, "
                f"which was kept; first: {differing[0]!r}; 'cubereel manifest apply' takes over "
                "what a manifest says"
            )
        report.num_done_before = len(features.videos) - len(missing)
        units = split_units(
            [video.num_rows for video in missing],
            row_bytes=sum(array.row_bytes for array in header.arrays),
            most_videos=header.max_unit_videos,
        )
        for unit in units:
            _write_unit([missing[i] for i in unit], writer, report)
        if missing:
            write_run(out, run_id, {"verb": "import", **to_plain(report)})
    return report


def _write_unit(
    videos: Sequence[ImportedVideo], writer: StoreSession, report: ImportReport
) -> None:
    rows = sum(video.num_rows for video in videos)
    with writer.unit(rows=rows, video_ids=[video.row.video_id for video in videos]) as unit:
        for video in videos:
            for block in video.blocks():
                unit.write_rows(block)
            unit.commit(**video.record)
            report.num_imported += 1
            report.num_frames += video.num_rows


def _is_there(writer: StoreSession, video: ImportedVideo) -> bool:
    """Whether the store has the video; raise `StoreError` when it has another of that id."""
    stored = writer.find(video.row.video_id)
    if stored is None:
        return False
    if stored.length != video.num_rows or stored.media_sha256 != video.record["media_sha256"]:
        raise StoreError(
            f"{writer.path} has another video {stored.id!r}, of {stored.length} frames, the source "
            f"has {video.num_rows}; import to another store"
        )
    return True
