"""Is a store what was written? `quick` reads tables and sizes, `full` every byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from features_store.disk import file_sha256
from features_store.errors import DamageError, StoreError
from features_store.header import StoreHeader, read_header
from features_store.index import build_index, list_shards
from features_store.shard_reader import ShardReader
from features_store.shard_writer import PARTIAL
from features_store.sidecar import read_sidecar


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
    report.problems += [problem for _, problem in lone_sidecars(store)]
    if not report.problems:
        try:
            build_index(store, header, names)
        except StoreError as err:
            report.problems.append(str(err))
    return report


def lone_sidecars(store: Path) -> list[tuple[Path, str]]:
    """Return sidecars without a shard, and what to say of each."""
    return [
        (path, f"shard {path.stem}.h5 is missing; its sidecar {path.name} is there")
        for path in sorted((store / "shards").glob("*.json"))
        if not path.with_suffix(".h5").exists() and not path.with_suffix(PARTIAL).exists()
    ]


def verify_shard(path: Path, header: StoreHeader, *, full: bool) -> ShardReport:
    """Check one shard: its size, its records, and with `full` every byte."""
    report = ShardReport(path.name)
    try:
        sidecar = read_sidecar(path)
        num_bytes = path.stat().st_size
        if num_bytes != sidecar.num_bytes:
            raise DamageError(
                f"{path.name} has {num_bytes} bytes, its sidecar says {sidecar.num_bytes}"
            )
        is_whole = not full or file_sha256(path) == sidecar.sha256
        shard = ShardReader(path, header.arrays, digest=header.spec.digest)
        try:
            _verify_videos(shard, report, full=full)
        finally:
            shard.close()
        if not is_whole and not report.damaged:
            raise DamageError(
                f"{path.name} has another SHA-256 than its sidecar says, though the rows of every "
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
