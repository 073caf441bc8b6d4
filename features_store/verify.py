"""Is a store what was written? `quick` reads tables and sizes, `full` every byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from features_store.errors import DamageError, StoreError
from features_store.header import StoreHeader, read_header
from features_store.index import list_shards, load_index, read_sidecar
from features_store.records import is_committed, unpack_record
from features_store.sealing import PARTIAL, array_checksum, file_sha256
from features_store.shard_reader import open_shard


@dataclass
class VerifyReport:
    """What `verify_store` found; `problems` is empty for a sound store."""

    store: str
    full: bool
    num_shards: int = 0
    num_videos: int = 0
    num_frames: int = 0
    unfinished: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def verify_store(store: Path, *, full: bool = False) -> VerifyReport:
    """Check every shard of a store; damage is reported, not raised.

    Unfinished shards of a killed run are no damage: the next extraction salvages them.
    """
    header = read_header(store)
    report = VerifyReport(str(store), full)
    report.unfinished = sorted(p.name for p in (store / "shards").glob(f"*{PARTIAL}"))
    for name, _ in list_shards(store):
        try:
            _verify_shard(store / "shards" / name, header, report)
        except StoreError as err:
            report.problems.append(str(err))
    report.problems += _lone_sidecars(store)
    if not report.problems:
        try:
            load_index(store, header)
        except StoreError as err:
            report.problems.append(str(err))
    return report


def _lone_sidecars(store: Path) -> list[str]:
    shards = store / "shards"
    return [
        f"shard {path.stem}.h5 is missing; its sidecar {path.name} is there"
        for path in sorted(shards.glob("*.json"))
        if not path.with_suffix(".h5").exists() and not path.with_suffix(PARTIAL).exists()
    ]


def _verify_shard(shard: Path, header: StoreHeader, report: VerifyReport) -> None:
    sidecar = read_sidecar(shard)
    size = shard.stat().st_size
    if size != sidecar["bytes"]:
        raise DamageError(f"{shard.name} has {size} bytes, its sidecar says {sidecar['bytes']}")
    whole = not report.full or file_sha256(shard) == sidecar["sha256"]
    found = len(report.problems)
    try:
        with open_shard(shard, header.arrays, digest=header.spec.digest) as file:
            _verify_videos(file, shard.name, header, report)
    except (OSError, RuntimeError, KeyError, ValueError, UnicodeDecodeError) as err:
        raise DamageError(f"{shard.name} cannot be read through: {err}") from err
    if not whole and len(report.problems) == found:
        raise DamageError(
            f"{shard.name} has another SHA-256 than its sidecar says, though the rows of every "
            "video match their checksums: the damage lies outside them"
        )
    report.num_shards += 1


def _verify_videos(file: h5py.File, name: str, header: StoreHeader, report: VerifyReport) -> None:
    table = file["videos"][:]
    num_rows = int(np.shape(file["pts_seconds"])[0])
    next_row = 0
    for position in range(len(table)):
        row = table[position : position + 1]
        if not is_committed(row):
            raise DamageError(f"{name}: the record of video number {position} is damaged")
        record = unpack_record(row)
        if record.offset != next_row or record.length < 1:
            raise DamageError(f"{name}: video {record.id!r} does not begin where the last one ends")
        next_row += record.length
        if report.full:
            for array, checksum in zip(header.arrays, record.checksums, strict=True):
                if array_checksum(file, array, record) != checksum:
                    report.problems.append(
                        f"{name}: video {record.id!r}: {array.path} is not what was written"
                    )
        report.num_videos += 1
        report.num_frames += record.length
    if next_row != num_rows:
        raise DamageError(f"{name} has {num_rows} rows, its videos {next_row}")
