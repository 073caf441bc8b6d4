"""Mending a damaged store: what is sound stays, what is not is set aside and said.

A damaged shard is replaced by one with its sound videos and moved to ``damaged/``; extraction then
refills the rest. Its sidecar stays as a tombstone, so that older copies of its videos do not come
back; where the sidecar is what was lost, the last index says which copy was the current one.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from features_store.errors import StoreError
from features_store.format.disk import fsync_path
from features_store.format.safety import check_own
from features_store.index import FILE_NAME, StoreIndex, list_shards, load_index, read_index
from features_store.metadata import StoreHeader, read_header
from features_store.plain import to_plain
from features_store.runs import new_run_id, write_run
from features_store.session import StoreWriter, lock_store
from features_store.shards.copy import StoredVideo
from features_store.shards.reader import ShardReader
from features_store.shards.sealing import open_sound_videos, seal_copies
from features_store.shards.sidecar import PARTIAL, read_sidecar, read_superseded, write_tombstone
from features_store.verbs.verify import missing_shards, verify_shard


@dataclass
class RepairReport:
    """What `repair_store` did.

    Attributes:
        damaged: shards that were set aside in ``damaged/``, or were gone -> what was wrong.
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
    report = RepairReport(new_run_id(), str(store))
    with lock_store(store):
        check_own(store / "damaged")
        mender = _Mender(store, header, report, read_index(store))
        for name in list_shards(store):
            mender.mend(name)
        for name in _twice(mender):
            mender.mend(name, problem="its videos are in another shard too, and neither says why")
        for name, problem in missing_shards(store).items():
            mender.bury(name, problem)
        for partial in sorted((store / "shards").glob(f"*{PARTIAL}")):
            mender.check_partial(partial)
        (store / FILE_NAME).unlink(missing_ok=True)
    with StoreWriter(store, header, run_id=report.run_id) as writer:
        report.salvaged = [shard.name for shard in writer.salvaged]
    after = load_index(store, header)
    report.num_videos = len(after.ids)
    report.lost = sorted(video_id for video_id in mender.lost if after.find(video_id) is None)
    write_run(store, report.run_id, {"verb": "repair", **to_plain(report)})
    return report


class _Mender:
    """Sets shards of one store aside and writes what is sound of them anew.

    Attributes:
        lost: ids that were in a damaged shard, whether or not they still are in another.
    """

    def __init__(
        self, store: Path, header: StoreHeader, report: RepairReport, before: StoreIndex | None
    ) -> None:
        self.shards = store / "shards"
        self.lost: set[str] = set()
        self._store, self._header, self._report, self._before = store, header, report, before

    def mend(self, name: str, *, problem: str = "") -> None:
        """Replace a shard by its sound videos when anything is wrong with it."""
        path = self.shards / name
        checked = verify_shard(path, self._header, full=True)
        problems = checked.problems or ([problem] if problem else [])
        if not problems:
            return
        self._report.damaged[name] = problems
        self.lost |= set(checked.damaged) | self._ids_before(name)
        supersedes = self._supersedes(name)
        with ExitStack() as opened:
            videos: list[StoredVideo] = []
            with suppress(StoreError):
                sound = open_sound_videos(path, self._header.arrays, spec=self._header.spec)
                videos = opened.enter_context(sound)
            dead = self._dead().get(name, set()) | self._newer_elsewhere(name)
            videos = [video for video in videos if video.record.id not in dead]
            if videos:
                new = f"{self._report.run_id}-r{len(self._report.damaged):04d}.h5"
                ids = [video.record.id for video in videos]
                seal_copies(
                    self.shards / new,
                    videos,
                    self._header.arrays,
                    spec=self._header.spec,
                    supersedes={**supersedes, path.stem: ids},
                )
        self._set_aside(path)
        write_tombstone(path, supersedes)

    def bury(self, name: str, problem: str) -> None:
        """Make a tombstone of the sidecar of a shard that is gone."""
        self._report.damaged[name] = [problem]
        supersedes = self._supersedes(name)
        self.lost |= self._ids_before(name) | {i for ids in supersedes.values() for i in ids}
        write_tombstone(self.shards / name, supersedes)

    def check_partial(self, partial: Path) -> None:
        """Set a partial aside that cannot be salvaged."""
        raw = [array.raw for array in self._header.arrays]
        try:
            ShardReader(partial, raw, spec=self._header.spec).close()
        except StoreError as err:
            self._report.damaged[partial.name] = [str(err)]
            self._set_aside(partial)

    def alive(self) -> dict[str, set[str]]:
        """Return id -> the readable shards that hold it and are not said to be replaced."""
        found: dict[str, set[str]] = {}
        dead = self._dead()
        for name in list_shards(self._store):
            with suppress(StoreError):
                reader = ShardReader(
                    self.shards / name, self._header.arrays, spec=self._header.spec
                )
                for video_id in reader.table["id"][: reader.num_videos].tolist():
                    text = video_id.decode(errors="replace")
                    if text not in dead.get(name, set()):
                        found.setdefault(text, set()).add(name)
                reader.close()
        return found

    def current(self, video_id: str, names: set[str]) -> str:
        """Return which of several shards has the current copy: the last index says, else age."""
        position = None if self._before is None else self._before.find(video_id)
        if self._before is not None and position is not None:
            name = self._before.shards[int(self._before.shard[position])]
            if name in names:
                return name
        return max(names)  # names of units begin with the time

    def _supersedes(self, name: str) -> dict[str, list[str]]:
        """Return what a shard supersedes: as its sidecar says, else by the copies there are."""
        with suppress(StoreError):
            return read_sidecar(self.shards / name).supersedes
        supersedes: dict[str, list[str]] = {}
        known = self._ids_before(name)
        for video_id, names in self.alive().items():
            if name in names or video_id in known:
                current = self.current(video_id, names | {name})
                for older in names - {name} if current == name else ():
                    supersedes.setdefault(older.removesuffix(".h5"), []).append(video_id)
        return supersedes

    def _newer_elsewhere(self, name: str) -> set[str]:
        """Return ids whose current copy is another shard's."""
        return {
            video_id
            for video_id, names in self.alive().items()
            if name in names and self.current(video_id, names) != name
        }

    def _dead(self) -> dict[str, set[str]]:
        dead: dict[str, set[str]] = {}
        for sidecar in sorted(self.shards.glob("*.json")):
            with suppress(StoreError):  # reported as damage of its own
                for name, ids in read_superseded([sidecar]).items():
                    dead.setdefault(name, set()).update(ids)
        return dead

    def _ids_before(self, name: str) -> set[str]:
        if self._before is None or name not in self._before.shards:
            return set()
        return set(self._before.of_shard(name))

    def _set_aside(self, path: Path) -> None:
        folder = self._store / "damaged"
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
        fsync_path(folder)
        fsync_path(self.shards)


def _twice(mender: _Mender) -> list[str]:
    """Return shards with videos whose current copy is another's, though no sidecar says so."""
    older = {
        name
        for video_id, names in mender.alive().items()
        for name in names - {mender.current(video_id, names)}
    }
    return sorted(older)
