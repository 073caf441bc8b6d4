"""`folder`: all that a store holds as plain files; importing them gives the same store.

`<id>/cubes.<layer>.npy` (T, K, K, D), `diff_cubes.<layer>.npy` where they are stored, `diffs.npy`
(T, 14, 14, 3), `pts_seconds.npy`, `frame_index.npy` (T,), `video.json` (the record, and the
xxh3-64 of each array, which an import compares); of other views than `center`,
`cubes.<layer>-<view>.npy`. At the top `store.json` and `manifest.csv`, as in a store. 8-bit cubes
are written as the float32 values that they are read as.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from features_store.errors import ContractError, DamageError, StoreError, UsageError
from features_store.exchange.array_files import NpyArray, write_npy
from features_store.exchange.export_folder import ExportFolder, check_names
from features_store.exchange.features import Features, ImportedVideo, check_row_bytes
from features_store.exchange.formats.registry import Format
from features_store.exchange.options import ImportOptions
from features_store.exchange.selection import KEEPS_ALL, Selection
from features_store.format.layout import ArraySpec, row_blocks
from features_store.format.records import (
    VideoRecord,
    check_id,
    pack_record,
    record_dtype,
    unpack_record,
    update_checksum,
    wrong_field,
)
from features_store.format.safety import check_own, read_json
from features_store.manifest import FILE_NAME as MANIFEST_FILE
from features_store.manifest import ManifestRow, manifest_bytes, read_store_manifest
from features_store.metadata import FILE_NAME as STORE_FILE
from features_store.metadata import StoreHeader, header_bytes, read_header
from features_store.plain import from_plain, to_plain

RECORD_FILE = "video.json"
CHECKSUMS = "checksums"
_OF_SHARD = ("offset", "length", "checksums")  # fields that a shard gives


def file_name(array: str) -> str:
    """Return the file of an array of a shard.

    >>> file_name("cubes/center/top"), file_name("diffs/flip"), file_name("pts_seconds")
    ('cubes.top.npy', 'diffs-flip.npy', 'pts_seconds.npy')
    """
    kind, _, rest = array.partition("/")
    view, _, layer = rest.partition("/")
    of_view = "" if view in ("", "center") else f"-{view}"
    return kind + (f".{layer}" if layer else "") + of_view + ".npy"


class Folder(Format):
    """A folder a video."""

    has_cells = True
    keeps = (KEEPS_ALL,)
    options = ()  # it says everything itself

    def check_export(self, selection: Selection) -> None:
        """Raise `UsageError` for ids that cannot all be folders."""
        names = [RECORD_FILE, *(file_name(array.path) for array in _header(selection).arrays)]
        paths = (f"{video_id}/{name}" for video_id in selection.ids for name in names)
        check_names([STORE_FILE, MANIFEST_FILE, *paths])

    def export(self, selection: Selection, target: ExportFolder) -> None:
        """Write a folder a video, then the manifest, then the header."""
        header = _header(selection)
        for video_id in selection.ids:
            _export_video(selection, target, header, video_id)
        target.write_small(MANIFEST_FILE, manifest_bytes(selection.said))
        target.write_small(STORE_FILE, header_bytes(header))

    @contextmanager
    def open_features(self, source: Path, _options: ImportOptions) -> Iterator[Features]:
        """Open every video of a folder with a `store.json`; everything in it is checked here."""
        header = read_header(source)
        said, read = header.dtype, header.encoding.read.name
        if said != read:
            raise StoreError(f"{source / STORE_FILE} says {said}; such cubes are stored as {read}")
        manifest = read_store_manifest(source)
        paths = sorted(source.rglob(RECORD_FILE))
        if not paths:
            raise StoreError(f"{source} holds no video: no file named {RECORD_FILE}")
        videos = [_open_video(path, source, header, manifest) for path in paths]
        dtype = np.dtype(header.dtype)
        yield Features(videos, header.layers, dtype, list(manifest.values()), header)


def _header(selection: Selection) -> StoreHeader:
    header = selection.store.header
    return replace(header, layers=selection.layers, dtype=header.encoding.read.name)


def _export_video(
    selection: Selection, target: ExportFolder, header: StoreHeader, video_id: str
) -> None:
    record = selection.sound_record(video_id)
    for array in header.arrays:
        name = f"{video_id}/{file_name(array.path)}"
        rows = selection.array(video_id, array.path)  # which are read when they are written
        target.write(name, partial(write_npy, array=rows))
    document = _to_json(record) | {CHECKSUMS: _checksums(selection, record, header)}
    target.write_small(f"{video_id}/{RECORD_FILE}", json.dumps(document, indent=1).encode())


def _checksums(selection: Selection, record: VideoRecord, header: StoreHeader) -> dict[str, str]:
    """Return xxh3-64 of what is exported, by array: as stored, unless that is encoded."""
    stored = zip(selection.store.header.arrays, record.checksums, strict=True)
    of_array = {
        array.path: f"{checksum:016x}" for array, checksum in stored if not array.is_encoded
    }
    return {
        array.path: of_array.get(array.path)
        or _checksum(selection.array(record.id, array.path).blocks)
        for array in header.arrays
    }


def _checksum(blocks: Iterable[np.ndarray]) -> str:
    hasher = xxhash.xxh3_64()
    for block in blocks:
        update_checksum(hasher, block)
    return hasher.hexdigest()


def _to_json(record: VideoRecord) -> dict[str, Any]:
    """Return the record without what belongs to its shard or is not there; nan becomes null."""
    document = {k: v for k, v in to_plain(record).items() if k not in _OF_SHARD and v != []}
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in document.items()}


def _open_video(
    path: Path, source: Path, header: StoreHeader, manifest: Mapping[str, ManifestRow]
) -> ImportedVideo:
    check_own(path)
    record, checksums = _read_record(path, header.spec.sampling.draws_shape)
    try:
        header.source(record["source"])
    except StoreError as err:
        raise ContractError(f"{path}: {err}") from err
    if record["id"] != path.parent.relative_to(source).as_posix():
        raise ContractError(f"{path} is about video {record['id']!r}; expected that of its folder")
    files = {
        a.path: _open_array(path.with_name(file_name(a.path)), source, a) for a in header.arrays
    }
    lengths = {file.header.shape[0] for file in files.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ContractError(f"the arrays beside {path} have {sorted(lengths)} rows; expected one")
    num_rows = lengths.pop()
    if not all(0 <= drawn < num_rows for draw in record.get("draws", ()) for drawn in draw):
        raise ContractError(f"{path} has draws of rows beyond the {num_rows} that are there")
    row = manifest.get(record["id"], ManifestRow(record["id"], record["id"]))
    row_bytes = max(array.row_bytes for array in header.arrays)
    check_row_bytes(row_bytes, str(path))
    _check_rows(files, num_rows, row_bytes, checksums)
    return ImportedVideo(row, num_rows, record, partial(_blocks, files, num_rows, row_bytes))


def _open_array(path: Path, source: Path, array: ArraySpec) -> NpyArray:
    check_own(path)
    if not path.is_file():
        raise ContractError(f"{path} is missing; export the store again")
    file = NpyArray(path)
    if file.header.shape[1:] != array.row_shape or file.header.dtype != array.dtype:
        raise ContractError(
            f"{path} has rows {file.header.shape[1:]} of {file.header.dtype}, store.json says "
            f"{array.row_shape} of {array.dtype}"
        )
    return file


def _blocks(
    files: Mapping[str, NpyArray], num_rows: int, row_bytes: int
) -> Iterator[dict[str, np.ndarray]]:
    for start, stop in row_blocks(0, num_rows, row_bytes):
        yield {array: file.rows(start, stop) for array, file in files.items()}


def _check_rows(
    files: Mapping[str, NpyArray], num_rows: int, row_bytes: int, checksums: Mapping[str, str]
) -> None:
    """Raise `StoreError` for rows that are not those exported, or that a store cannot hold."""
    hashers = {array: xxhash.xxh3_64() for array in files}
    for block in _blocks(files, num_rows, row_bytes):
        for array, rows in block.items():
            update_checksum(hashers[array], rows)
            if rows.dtype.kind == "f" and not np.isfinite(rows).all():
                raise StoreError(f"{files[array].where} has values that are nan or infinite")
    for array, hasher in hashers.items():
        if checksums.get(array) != hasher.hexdigest():
            raise DamageError(
                f"{files[array].where} is not what was exported; export the store again, or import "
                "your own features in another format, under a name of their own"
            )


def _read_record(
    path: Path, draws_shape: tuple[int, int] | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields of a record and the checksums; raise `ContractError` for what is wrong."""
    try:
        document = dict(read_json(path))
        checksums = from_plain(dict[str, str], document.pop(CHECKSUMS))
        unknown = [name for name, value in document.items() if value is None]  # nan, in JSON
        document |= dict.fromkeys(unknown, 0.0) | {"offset": 0, "length": 1, "checksums": []}
        nan: dict[str, Any] = dict.fromkeys(unknown, math.nan)
        record = replace(from_plain(VideoRecord, document), **nan)
        check_id(record.id)
        id_bytes = len(record.id.encode())
        dtype = record_dtype(id_bytes=id_bytes, num_arrays=0, draws_shape=draws_shape)
        if _to_json(unpack_record(pack_record(record, dtype))) != _to_json(record):
            raise ValueError("a value is too long or of another type")  # noqa: TRY301
        if wrong := wrong_field(record):
            raise ValueError(f"{wrong} is {getattr(record, wrong)!r}")  # noqa: TRY301
    except (OSError, ValueError, TypeError, KeyError, OverflowError, UsageError) as err:
        raise ContractError(f"{path} is not the record of a video: {err}") from err
    return {k: v for k, v in vars(record).items() if k not in _OF_SHARD and v != ()}, checksums
