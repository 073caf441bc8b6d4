"""From an open shard to a sealed one: copy what is committed, fsync, rename.

The sidecar is written before the rename, so a shard that has its final name also has its sidecar.
A killed partial is only read and salvaged in the same way, never extended.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import xxhash

from features_store.layout import ArraySpec
from features_store.records import (
    VideoRecord,
    is_committed,
    pack_record,
    unpack_record,
    update_checksum,
)
from features_store.shard_writer import create_shard_file, fsync_path

PARTIAL = ".h5.partial"
BLOCK_BYTES = 2**26

# Video ids to a table: unit -> those of the ids that lie there until now.
Supersede = Callable[[list[str]], dict[str, list[str]]]


def seal(
    partial: Path, arrays: Sequence[ArraySpec], *, digest: str, supersede: Supersede
) -> Path | None:
    """Turn ``<unit>.h5.partial`` into ``<unit>.h5`` and its sidecar; return the shard's path.

    Only committed videos whose rows still match their checksums are copied. Without any, the
    partial is removed and None returned. `supersede` says what the copied videos replace.
    """
    shard = partial.with_name(partial.name.removesuffix(".partial"))
    copy = shard.with_suffix(".h5.sealing")
    copy.unlink(missing_ok=True)
    if not shard.exists():
        with _open_partial(partial) as source:
            records = committed_records(source, arrays) if source else []
            if source and records:
                _copy(source, copy, arrays, records, digest)
        if not records:
            partial.unlink()
            return None
        write_sidecar(shard, copy, supersede([record.id for record in records]))
        copy.rename(shard)
        fsync_path(shard.parent)
    partial.unlink()
    return shard


@contextmanager
def _open_partial(path: Path) -> Iterator[h5py.File | None]:
    """Open a partial; None for one killed before its first fsync, when it holds no row."""
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError:
        yield None
        return
    with file:
        yield file


def committed_records(file: h5py.File, arrays: Sequence[ArraySpec]) -> list[VideoRecord]:
    """Return the videos of a partial that are committed and whose rows match their checksums."""
    if "videos" not in file or any(array.path not in file for array in arrays):
        return []  # killed while it was laid out
    records = []
    table = file["videos"]
    for position in range(len(table)):
        row = table[position : position + 1]
        if not is_committed(row):
            break  # records are written in order
        record = unpack_record(row)
        if all(
            checksum == array_checksum(file, array, record)
            for array, checksum in zip(arrays, record.checksums, strict=True)
        ):
            records.append(record)
    return records


def array_checksum(file: h5py.File, array: ArraySpec, record: VideoRecord) -> int:
    """Return the checksum of one video's rows as they are in the file now."""
    hasher = xxhash.xxh3_64()
    for start, stop in row_blocks(record.offset, record.length, array.row_bytes):
        update_checksum(hasher, file[array.path][start:stop])
    return int(hasher.intdigest())


def row_blocks(offset: int, length: int, row_bytes: int) -> list[tuple[int, int]]:
    """Cut a video's rows into blocks of at most `BLOCK_BYTES`.

    >>> row_blocks(10, 5, BLOCK_BYTES // 2)
    [(10, 12), (12, 14), (14, 15)]
    """
    step = max(1, BLOCK_BYTES // row_bytes)
    stop = offset + length
    return [(start, min(start + step, stop)) for start in range(offset, stop, step)]


def _copy(
    source: h5py.File,
    target: Path,
    arrays: Sequence[ArraySpec],
    records: Sequence[VideoRecord],
    digest: str,
) -> None:
    id_bytes = max(len(record.id.encode()) for record in records)
    num_rows = sum(record.length for record in records)
    file = create_shard_file(
        target, arrays, rows=num_rows, videos=len(records), id_bytes=id_bytes, digest=digest
    )
    with file:
        offset = 0
        for position, record in enumerate(records):
            for array in arrays:
                for start, stop in row_blocks(record.offset, record.length, array.row_bytes):
                    shift = offset - record.offset
                    file[array.path][start + shift : stop + shift] = source[array.path][start:stop]
            row = pack_record(replace(record, offset=offset), file["videos"].dtype)
            file["videos"][position : position + 1] = row
            offset += record.length
    fsync_path(target)


def write_sidecar(shard: Path, content: Path, supersedes: dict[str, list[str]]) -> None:
    """Write ``<unit>.json``: size and sha256 of the whole shard, and what it supersedes."""
    document = {
        "bytes": content.stat().st_size,
        "sha256": file_sha256(content),
        "supersedes": supersedes,
    }
    write_atomically(shard.with_suffix(".json"), json.dumps(document, indent=1).encode())


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file so that it is either the old one or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_path(path.parent)
