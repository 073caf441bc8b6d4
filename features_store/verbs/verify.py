"""Is a store what was written? `quick` reads tables and sizes, `full` every byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from features_store.errors import DamageError, StoreError
from features_store.format.disk import file_checksum
from features_store.index import FILE_NAME, build_index, list_shards, read_index
from features_store.metadata import StoreHeader, read_header
from features_store.shards.reader import ShardReader
from features_store.shards.sidecar import PARTIAL, lone_sidecars, read_sidecar


@dataclass
class ShardReport:
    """What is wrong with one shard.

    Attributes:
        damaged: ids of videos whose rows are not what was written -> what is wrong with them.
        problem: what is wrong outside the rows; empty when nothing is.
    """

    name: str
    num_videos: int = 0
    num_frames: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def problems(self) -> list[str]:
        """One line per damaged video, or one about the shard."""
        lines = [f"{self.name}: video {i!r}: {what}" for i, what in self.damaged.items()]
        return lines + ([self.problem] if self.problem else [])


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

    Unfinished shards of a killed run are no damage: the next writer salvages them.
    """
    header = read_header(store)
    report = VerifyReport(str(store), full)
    report.unfinished = sorted(p.name for p in (store / "shards").glob(f"*{PARTIAL}"))
    names = list_shards(store)
    for name in names:
        shard = verify_shard(store / "shards" / name, header, full=full)
        report.num_shards += not shard.problem
        report.num_videos += shard.num_videos
        report.num_frames += shard.num_frames
        report.problems += shard.problems
    report.problems += missing_shards(store).values()
    if not report.problems:
        try:
            built, cached = build_index(store, header, names), read_index(store)
            if cached is not None and cached.shards == names and not built.equals(cached):
                report.problems.append(f"{FILE_NAME} says otherwise than the shards; delete it")
        except StoreError as err:
            report.problems.append(str(err))
    return report


def missing_shards(store: Path) -> dict[str, str]:
    """Return the names of shards whose sidecars alone are there, and what to say of each."""
    missing = {}
    for path in lone_sidecars(store / "shards"):
        try:
            is_tombstone = read_sidecar(path.with_suffix(".h5")).bytes == 0
        except StoreError:
            is_tombstone = False
        if not is_tombstone:
            name = f"{path.stem}.h5"
            missing[name] = f"shard {name} is missing; its sidecar {path.name} is there"
    return missing


def verify_shard(path: Path, header: StoreHeader, *, full: bool) -> ShardReport:
    """Check one shard: its size, its records, and with `full` every byte."""
    report = ShardReport(path.name)
    try:
        sidecar = read_sidecar(path)
        num_bytes = path.stat().st_size
        if num_bytes != sidecar.bytes:
            raise DamageError(
                f"{path.name} has {num_bytes} bytes, its sidecar says {sidecar.bytes}"
            )
        is_whole = not full or file_checksum(path) == sidecar.xxh3_128
        shard = ShardReader(path, header.arrays, spec=header.spec)
        try:
            _verify_videos(shard, report, full=full)
        finally:
            shard.close()
        if not is_whole and not report.damaged:
            raise DamageError(
                f"{path.name} has another checksum than its sidecar says, though the rows of every "
                "video match their checksums: the damage lies outside them"
            )
    except StoreError as err:
        report.problem = str(err)
    return report


def _verify_videos(shard: ShardReader, report: ShardReport, *, full: bool) -> None:
    next_row = 0
    for record in shard.records():
        if record.offset != next_row:
            raise DamageError(
                f"{report.name}: video {record.id!r} does not begin where the last one ends"
            )
        next_row += record.length
        problems = shard.damaged_arrays(record) if full else []
        if problems:
            report.damaged[record.id] = "; ".join(problems)
        report.num_videos += 1
        report.num_frames += record.length
    if shard.table[shard.num_videos :].tobytes().strip(b"\0"):
        raise DamageError(f"{report.name}: there is something behind the last record")
