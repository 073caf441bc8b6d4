"""Mending a damaged store: what is sound stays, what is not is set aside and said.

A damaged shard is replaced by one with its sound videos and moved to ``damaged/``; extraction then
refills the rest. What older copies a lost video had replaced stays replaced.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from features_store.disk import fsync_path
from features_store.errors import StoreError
from features_store.header import StoreHeader, read_header
from features_store.index import FILE_NAME, StoreIndex, list_shards, load_index, read_index
from features_store.runs import new_run_id, write_run
from features_store.sealing import committed_videos, seal_copies, write_sidecar
from features_store.shard_copy import StoredVideo
from features_store.shard_reader import ShardReader
from features_store.shard_writer import PARTIAL
from features_store.sidecar import Sidecar, read_sidecar
from features_store.store_writer import StoreWriter, lock_store
from features_store.verify import lone_sidecars, verify_shard


@dataclass
class RepairReport:
    """What `repair_store` did.

    Attributes:
        damaged: shards that were set aside in ``damaged/`` -> what was wrong with them.
        lost: ids that the store does not hold any more; extraction refills them.
        salvaged: shards made of what a killed run had committed.
    """

    run_id: str
    store: str
    damaged: dict[str, list[str]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    salvaged: list[str] = field(default_factory=list)
    num_videos: int = 0


def repair_store(store: Path) -> RepairReport:
    """Read every byte; rebuild what is damaged from what is sound; bring the index up to date.

    Raises:
        StoreError: `store.json` itself is damaged, or somebody is writing the store.
    """
    header = read_header(store)
    run_id = new_run_id()
    report = RepairReport(run_id, str(store))
    with lock_store(store):
        before = read_index(store)
        lost = set()
        for number, name in enumerate(list_shards(store), start=1):
            checked = verify_shard(store / "shards" / name, header, full=True)
            if checked.problems:
                report.damaged[name] = checked.problems
                lost |= set(checked.damaged) | _ids_of(before, name)
                _replace(store, name, header, f"{run_id}-r{number:04d}.h5", set(checked.damaged))
        for sidecar, problem in lone_sidecars(store):
            report.damaged[sidecar.name] = [problem]
            lost |= _ids_of(before, f"{sidecar.stem}.h5")
            _keep_superseded(store, sidecar.with_suffix(".h5"))
            _set_aside(store, [sidecar])
        for partial in sorted((store / "shards").glob(f"*{PARTIAL}")):
            if problem := _unreadable(partial, header):
                report.damaged[partial.name] = [problem]
                _set_aside(store, [partial])
        (store / FILE_NAME).unlink(missing_ok=True)
    with StoreWriter(store, header, run_id=run_id) as writer:
        report.salvaged = [shard.name for shard in writer.salvaged]
    after = load_index(store, header)
    report.num_videos = len(after.ids)
    report.lost = sorted(video_id for video_id in lost if after.find(video_id) is None)
    write_run(store, run_id, {"verb": "repair", **asdict(report)})
    return report


def _unreadable(partial: Path, header: StoreHeader) -> str:
    try:
        committed_videos(partial, header.arrays, digest=header.spec.digest)
    except StoreError as err:
        return str(err)
    return ""


def _ids_of(index: StoreIndex | None, shard: str) -> set[str]:
    return set(index.of_shard(shard)) if index is not None and shard in index.shards else set()


def _replace(store: Path, name: str, header: StoreHeader, new: str, damaged: set[str]) -> None:
    """Seal a shard with the sound videos of `name`, then set `name` aside."""
    old = store / "shards" / name
    videos = _sound_videos(old, header, damaged)
    _keep_superseded(store, old)
    if videos:
        seal_copies(
            old.with_name(new),
            videos,
            header.arrays,
            digest=header.spec.digest,
            supersedes={old.stem: [video.record.id for video in videos]},
        )
    _set_aside(store, [old, old.with_suffix(".json")])


def _sound_videos(shard: Path, header: StoreHeader, damaged: set[str]) -> list[StoredVideo]:
    try:
        reader = ShardReader(shard, header.arrays, digest=header.spec.digest)
    except StoreError:
        return []
    videos = []
    for position in range(reader.num_videos):
        try:
            record = reader.record(position)
        except StoreError:
            continue
        if record.id not in damaged and not reader.damaged_arrays(record):
            videos.append(StoredVideo(reader, record))
    dead = _dead_in(shard)
    return [video for video in videos if video.record.id not in dead]


def _dead_in(shard: Path) -> set[str]:
    """Return ids that other shards, or its own sidecar, say are replaced in this one."""
    dead: set[str] = set()
    for other in sorted(shard.parent.glob("*.h5")):
        try:
            dead |= set(read_sidecar(other).supersedes.get(shard.stem, []))
        except StoreError:
            continue  # reported as damage of its own
    return dead


def _keep_superseded(store: Path, shard: Path) -> None:
    """Write what a shard that is about to go supersedes into the sidecars of those it names.

    Otherwise the older copies of its lost videos would come back as if they were current.
    """
    try:
        supersedes = read_sidecar(shard).supersedes
    except StoreError:
        return
    for unit, ids in supersedes.items():
        older = store / "shards" / f"{unit}.h5"
        if older.exists() and older != shard:
            said = read_sidecar(older)
            own = sorted({*said.supersedes.get(unit, []), *ids})
            write_sidecar(
                older, Sidecar(said.num_bytes, said.sha256, said.supersedes | {unit: own})
            )


def _set_aside(store: Path, paths: Iterable[Path]) -> None:
    folder = store / "damaged"
    folder.mkdir(exist_ok=True)
    for path in paths:
        if path.exists():
            path.rename(folder / path.name)
    fsync_path(folder)
    fsync_path(store / "shards")
