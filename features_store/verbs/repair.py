"""Mending a damaged store: what is sound stays, what is not is set aside and said.

A damaged shard is replaced by one with its sound videos and moved to ``damaged/``; extraction then
refills the rest. The catalogue keeps its entry, so older copies of its videos do not come back.
Where the catalogue is what was lost, one is made of the shards that are there.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path

import numpy as np

from features_store.catalogue import (
    PARTIAL,
    SEALING,
    UNIT,
    Catalogue,
    ShardEntry,
    check_identity,
    list_shards,
    read_catalogue,
    write_catalogue,
)
from features_store.errors import DamageError, StoreError
from features_store.format.disk import file_checksum, fsync_path
from features_store.format.records import is_committed
from features_store.format.safety import check_own
from features_store.index import FILE_NAME, StoreIndex, load_index, read_index
from features_store.locking import lock_store
from features_store.metadata import StoreHeader, read_header
from features_store.plain import to_plain
from features_store.runs import new_run_id, write_run
from features_store.session import StoreWriter, finish_pending
from features_store.shards.copy import StoredVideo
from features_store.shards.reader import ShardReader
from features_store.shards.sealing import Sealer, describe_shard, open_sound_videos
from features_store.verbs.verify import verify_shard


@dataclass
class RepairReport:
    """What `repair_store` did.

    Attributes:
        damaged: shards that were set aside in ``damaged/``, or were gone -> what was wrong.
        adopted: sound shards that the catalogue did not list, and that are the store's now.
        lost: ids that the store does not hold any more; extraction refills them.
        salvaged: shards made of what a killed run had committed.
    """

    run_id: str
    store: str
    damaged: dict[str, list[str]] = field(default_factory=dict)
    adopted: list[str] = field(default_factory=list)
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
        mender = _Mender(store, header, report)
        # First: what is listed after a pending shard would hide that it is one.
        mender.catalogue, finished = finish_pending(store, mender.catalogue)
        if mender.move_home():
            mender.catalogue, _ = finish_pending(store, mender.catalogue)
        for name in list(mender.catalogue.shards):
            mender.mend(name)
        for name in sorted(list_shards(store), key=age):
            mender.adopt(name)
        # A new one at the end: half of one would be taken for the one that was lost.
        write_catalogue(store, mender.catalogue)
        for partial in sorted((store / "shards").glob(f"*{PARTIAL}")):
            mender.check_partial(partial)
        (store / FILE_NAME).unlink(missing_ok=True)
    with StoreWriter(store, header, run_id=report.run_id) as writer:
        report.salvaged = [shard.name for shard in finished + writer.salvaged]
    catalogue = read_catalogue(store, spec_digest=header.spec.digest)
    after = load_index(store, header, catalogue)
    report.num_videos = len(after.ids)
    report.lost = sorted(video_id for video_id in mender.lost if after.find(video_id) is None)
    write_run(store, report.run_id, {"verb": "repair", **to_plain(report)})
    return report


class _Mender:
    """Sets shards of one store aside and writes what is sound of them anew.

    Attributes:
        catalogue: as it is on the disk; where that was lost, as it is to be.
        lost: ids that were in a damaged shard, whether or not they still are in another.
    """

    def __init__(self, store: Path, header: StoreHeader, report: RepairReport) -> None:
        self.lost: set[str] = set()
        self._store, self._header, self._report = store, header, report
        self._shards = store / "shards"
        self._before: StoreIndex | None = read_index(store)
        # Then copies of a video tell by the names of their shards which is newer: by the time.
        self._has_no_catalogue = False
        try:
            self.catalogue = read_catalogue(store, spec_digest=header.spec.digest)
        except DamageError as err:
            self._report.damaged["catalogue.json"] = [str(err)]
            self._has_no_catalogue = True
            self.catalogue = Catalogue(header.spec.digest)

    def move_home(self) -> list[Path]:
        """Move whole shards under other names to where a pending shard of theirs would be.

        Two of them may have been exchanged, so no name is given here.
        """
        homes = {}
        for name in sorted(list_shards(self._store)):
            path, entry = self._shards / name, self.catalogue.shards.get(name)
            if not path.is_symlink() and (entry is None or not _is_listed(path, entry)):
                homes[path] = self._entry_of(path)
        found = {path: entry for path, entry in homes.items() if entry is not None}
        for path in [self._shards / entry.file_name for entry in found.values()]:
            if path in homes and path not in found:
                self._report.damaged[path.name] = [f"{path.name} is another shard than is listed"]
                self._set_aside(path)
        going = {path.name for path in found}
        return [
            path.rename(self._shards / f"{entry.name}{SEALING}")
            for path, entry in found.items()
            if entry.file_name in going or not (self._shards / entry.file_name).exists()
        ]

    def _entry_of(self, path: Path) -> ShardEntry | None:
        """Return the listed shard that a file is, whatever its name."""
        size = path.stat().st_size
        for entry in self.catalogue.shards.values():
            if entry.bytes == size and _is_listed(path, entry):
                return entry if file_checksum(path) == entry.xxh3_128 else None
        return None

    def mend(self, name: str) -> None:
        """Replace a shard by its sound videos when anything is wrong with it."""
        path, entry = self._shards / name, self.catalogue.shards[name]
        problems = self._problems(path, entry)
        if not problems:
            return
        self._report.damaged[name] = problems
        self.lost |= self._ids_before(name)
        is_other = not path.exists() or self._is_other(path, entry)
        with ExitStack() as opened:
            videos: list[StoredVideo] = []
            if not is_other:
                with suppress(StoreError):
                    sound = open_sound_videos(path, self._header.arrays, spec=self._header.spec)
                    videos = opened.enter_context(sound)
            dead = self.catalogue.superseded.get(name, set())
            videos = [video for video in videos if video.record.id not in dead]
            if videos:
                new = self.catalogue.new_name(
                    f"{self._report.run_id}.r{len(self._report.damaged):04d}"
                )
                ids = tuple(video.record.id for video in videos)
                supersedes = {**entry.supersedes, entry.name: ids}
                self._sealer().copies(videos, self._shards / f"{new}.h5", supersedes=supersedes)
        self._announce(ShardEntry(entry.name, supersedes=entry.supersedes))
        if os.path.lexists(path):
            self._set_aside(path)

    def adopt(self, name: str) -> None:
        """List a sound shard that no entry lists and that only adds videos; set others aside."""
        path = self._shards / name
        if name in self.catalogue.shards:
            return
        if any(entry.file_name == name for entry in self.catalogue.entries):
            self._set_aside(path)  # removed, and then the repair was killed
            return
        ids: list[str] = []
        try:
            ids, entry, problems = self._look_at(path)
        except StoreError as err:
            entry, problems = None, [str(err)]
        if entry is None or problems:
            self._report.damaged[name] = [f"{name}: the catalogue does not list it", *problems]
            self._set_aside(path)
        else:
            self._report.adopted.append(name)
            self._announce(entry)
            self._known |= dict.fromkeys(ids, name)

    def _look_at(self, path: Path) -> tuple[list[str], ShardEntry, list[str]]:
        if UNIT.fullmatch(path.stem) is None:
            raise DamageError(f"{path.name} is no name of a shard")
        known, older = self._known, dict[str, tuple[str, ...]]()
        with closing(ShardReader(path, self._header.arrays, spec=self._header.spec)) as reader:
            ids = [record.id for record in reader.records()]
        twice = [video_id for video_id in ids if video_id in known]
        for video_id in twice if self._has_no_catalogue else ():
            unit = known[video_id].removesuffix(".h5")
            older[unit] = (*older.get(unit, ()), video_id)
        entry = describe_shard(path, self._header.arrays, spec=self._header.spec, supersedes=older)
        problems = verify_shard(path, self._header, entry, full=True).problems
        if twice and not older:
            problems.append(f"{path.name}: video {twice[0]!r} is in {known[twice[0]]} too")
        return ids, entry, problems

    def check_partial(self, partial: Path) -> None:
        """Set a partial aside that cannot be salvaged."""
        raw = [array.raw for array in self._header.arrays]
        try:
            ShardReader(partial, raw, spec=self._header.spec).close()
        except StoreError as err:
            self._report.damaged[partial.name] = [str(err)]
            self._set_aside(partial)

    def _problems(self, path: Path, entry: ShardEntry) -> list[str]:
        if not path.exists():
            return [f"shard {path.name} is missing"]
        if path.stat().st_size != entry.bytes:
            found = path.stat().st_size
            return [f"shard {path.name} has {found} bytes, the catalogue says {entry.bytes}"]
        checked = verify_shard(path, self._header, entry, full=True)
        self.lost |= set(checked.damaged)
        return checked.problems

    def _is_other(self, path: Path, entry: ShardEntry) -> bool:
        """Whether a file is a shard that is whole, but not the one that is listed."""
        try:
            # Of any size: what has been cut or has grown is the listed one all the same.
            check_identity(path, replace(entry, bytes=path.stat().st_size))
        except StoreError:
            with suppress(StoreError):
                reader = ShardReader(path, self._header.arrays, spec=self._header.spec)
                with closing(reader):
                    return all(map(is_committed, np.split(reader.table, len(reader.table))))
        return False

    @cached_property
    def _known(self) -> dict[str, str]:
        """Id -> the shard where it lies; made when all listed shards are mended."""
        known: dict[str, str] = {}
        for name in self.catalogue.shards:
            with suppress(StoreError):
                reader = ShardReader(
                    self._shards / name, self._header.arrays, spec=self._header.spec
                )
                dead = self.catalogue.superseded.get(name, set())
                known |= {r.id: name for r in reader.records() if r.id not in dead}
                reader.close()
        return known

    def _sealer(self) -> Sealer:
        return Sealer(
            self._header.arrays, self._header.spec, supersede=lambda _: {}, announce=self._announce
        )

    def _announce(self, entry: ShardEntry) -> None:
        self.catalogue = self.catalogue.with_entry(entry)
        if not self._has_no_catalogue:
            write_catalogue(self._store, self.catalogue)

    def _ids_before(self, name: str) -> set[str]:
        if self._before is None or name not in self._before.shards:
            return set()
        return set(self._before.of_shard(name))

    def _set_aside(self, path: Path) -> None:
        folder = self._store / "damaged"
        folder.mkdir(exist_ok=True)
        free = (f"{path.name}{f'.{n}' * (n > 0)}" for n in count())
        path.rename(next(folder / name for name in free if not (folder / name).exists()))
        fsync_path(folder)
        fsync_path(self._shards)


def _is_listed(path: Path, entry: ShardEntry) -> bool:
    try:
        check_identity(path, entry)
    except StoreError:
        return False
    return True


def age(name: str) -> list[tuple[int, str]]:
    """Return what sorts names of shards by their time, then by their numbers.

    >>> sorted(["t.0002-1.h5", "t.0002-10.h5", "t.0002-2.h5"], key=age)[-1]
    't.0002-10.h5'
    """
    return [(int(part or 0), text) for part, text in re.findall(r"(\d+)|(\D+)", name)]
