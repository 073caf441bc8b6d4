"""Is a store what was written? `quick` reads tables and sizes, `full` every byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from features_store.catalogue import PARTIAL, Catalogue, ShardEntry, read_catalogue
from features_store.errors import DamageError, StoreError
from features_store.format.disk import file_checksum
from features_store.format.safety import check_own
from features_store.index import FILE_NAME, build_index, read_index
from features_store.listing import check_identity, list_shards, listing_problems, settled
from features_store.metadata import StoreHeader, read_header
from features_store.shards.reader import ShardReader


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
    there = list_shards(store)
    try:
        listed = read_catalogue(store, spec_digest=header.spec.digest)
    except StoreError as err:
        report.problems.append(str(err))
        return report
    catalogue = settled(store, listed)
    report.problems += listing_problems(store, catalogue, there)
    for name, entry in catalogue.shards.items():
        if not (store / "shards" / name).exists():
            continue
        shard = verify_shard(store / "shards" / name, header, entry, full=full)
        report.num_shards += not shard.problem
        report.num_videos += shard.num_videos
        report.num_frames += shard.num_frames
        report.problems += shard.problems
    if not report.problems:
        report.problems += _index_problems(store, header, catalogue)
    return report


def _index_problems(store: Path, header: StoreHeader, catalogue: Catalogue) -> list[str]:
    try:
        built, cached = build_index(store, header, catalogue), read_index(store)
    except StoreError as err:
        return [str(err)]
    is_stale = cached is None or cached.revision != catalogue.revision
    if cached is None or is_stale or built.equals(cached):
        return []
    return [f"{FILE_NAME} says otherwise than the shards; delete it"]


def verify_shard(path: Path, header: StoreHeader, entry: ShardEntry, *, full: bool) -> ShardReport:
    """Check one shard: its size, its records, and with `full` every byte."""
    report = ShardReport(path.name)
    try:
        check_own(path)
        num_bytes = path.stat().st_size
        if num_bytes != entry.bytes:
            return report  # said with the others that are missing or of another size
        shard = ShardReader(path, header.arrays, spec=header.spec)
        # Behind it, which refuses a file that has no end.
        is_whole = not full or file_checksum(path) == entry.xxh3_128
        _verify_videos(shard, header, report, full=full)
        if not report.damaged:
            check_identity(path, entry)
        if not is_whole and not report.damaged:
            raise DamageError(
                f"{path.name} has another checksum than the catalogue says, though the rows of "
                "every video match their checksums: the damage lies outside them"
            )
    except StoreError as err:
        report.problem = str(err)
    return report


def _verify_videos(
    shard: ShardReader, header: StoreHeader, report: ShardReport, *, full: bool
) -> None:
    next_row = 0
    for record in shard.records():
        if record.offset != next_row:
            raise DamageError(
                f"{report.name}: video {record.id!r} does not begin where the last one ends"
            )
        next_row += record.length
        header.source(record.source)
        problems = shard.damaged_arrays(record) if full else []
        if problems:
            report.damaged[record.id] = "; ".join(problems)
        report.num_videos += 1
        report.num_frames += record.length
    if shard.table[shard.num_videos :].tobytes().strip(b"\0"):
        raise DamageError(f"{report.name}: there is something behind the last record")
