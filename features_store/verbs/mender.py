"""What repair does with each shard of a store.

A damaged shard is replaced by one with its sound videos and moved to ``damaged/``; extraction then
refills the rest. The catalogue keeps its entry, so older copies of its videos do not come back.
Where the catalogue is what was lost, one is made of the shards that are there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cached_property
from itertools import count
from pathlib import Path

import numpy as np

from features_store.catalogue import (
    SEALING,
    UNIT,
    Catalogue,
    ShardEntry,
    read_catalogue,
    write_catalogue,
)
from features_store.errors import DamageError, StoreError, UnsafeStoreError
from features_store.format.disk import file_checksum, fsync_path
from features_store.format.records import is_committed
from features_store.index import FILE_NAME as INDEX_NAME
from features_store.index import StoreIndex, read_index
from features_store.listing import check_identity, list_shards, size_problem
from features_store.metadata import StoreHeader
from features_store.shards.copy import StoredVideo
from features_store.shards.reader import ShardReader
from features_store.shards.sealing import describe_shard, open_sound_videos, write_copies
from features_store.verbs.verify import verify_shard

MOST_LENGTHENED = 2**10  # times its bytes: what was cut to less has nothing sound


class Mender:
    """Sets shards of one store aside and writes what is sound of them anew.

    Attributes:
        catalogue: as it is on the disk; where that was lost, as it is to be.
        damaged: shards that were set aside, or were gone -> what was wrong.
        adopted: sound shards that the catalogue did not list.
        lost: ids that were in a damaged shard, whether or not they still are in another.
    """

    def __init__(self, store: Path, header: StoreHeader, run_id: str) -> None:
        self.lost: set[str] = set()
        self.damaged: dict[str, list[str]] = {}
        self.adopted: list[str] = []
        self._store, self._header, self._run_id = store, header, run_id
        self._shards = store / "shards"
        self._before = _sound_index(store)
        # Then copies of a video tell by the names of their shards which is newer: by the time.
        self._has_no_catalogue = False
        try:
            self.catalogue = read_catalogue(store, spec_digest=header.spec.digest)
        except DamageError as err:
            self.damaged["catalogue.json"] = [str(err)]
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
                self.damaged[path.name] = [f"{path.name} is another shard than is listed"]
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
        self.damaged[name] = problems
        self.lost |= self._ids_before(name)
        # Not through a link: what it leads to is not the store's, and would be made longer.
        if path.is_file() and not path.is_symlink() and not self._is_other(path, entry):
            size = path.stat().st_size
            if size < entry.bytes <= MOST_LENGTHENED * size:
                os.truncate(path, entry.bytes)  # no reader opens a file that was cut off
            dead = self.catalogue.superseded.get(name, set())
            self._keep_sound(path, entry.name, is_kept=lambda video_id: video_id not in dead)
        self._announce(ShardEntry(entry.name))
        if os.path.lexists(path):
            self._set_aside(path)

    def adopt(self, name: str) -> None:
        """List a sound shard that no entry lists and that only adds videos; set others aside.

        What such another one adds is kept.
        """
        path = self._shards / name
        if name in self.catalogue.shards:
            return
        if any(entry.file_name == name for entry in self.catalogue.entries):
            self._set_aside(path)  # removed, and then the repair was killed
            return
        ids, entry, problems = self._look_at(path)
        if entry is not None and not problems:
            self.adopted.append(name)
            self._announce(entry)
            self._known |= dict.fromkeys(ids, name)
            return
        self.damaged[name] = [f"{name}: the catalogue does not list it", *problems]
        self.lost |= set(ids) if self._has_no_catalogue else set()
        known = () if self._has_no_catalogue else self._known
        self._keep_sound(path, None, is_kept=lambda video_id: video_id not in known)
        vars(self).pop("_known", None)  # to be found out anew
        self._set_aside(path)

    def resolve_copies(self) -> None:
        """Of a video in several shards that do not say which is newer, let the newest one count."""
        where: dict[str, str] = {}
        for name in sorted(self.catalogue.shards, key=age):
            older: dict[str, tuple[str, ...]] = {}
            for video_id in self._ids_of(name):
                if video_id in where:
                    unit = where[video_id].removesuffix(".h5")
                    older[unit] = (*older.get(unit, ()), video_id)
                where[video_id] = name
            if older:
                entry = self.catalogue.shards[name]
                self._announce(replace(entry, supersedes={**entry.supersedes, **older}))

    def _look_at(self, path: Path) -> tuple[list[str], ShardEntry | None, list[str]]:
        """Return the ids in a shard that is not listed, its entry, and what is wrong with it."""
        ids: list[str] = []
        if UNIT.fullmatch(path.stem) is None:
            return ids, None, [f"{path.name} is no name of a shard"]
        try:
            reader = self._open(path)
            found = reader.table["id"][: reader.num_videos].tolist()
            ids = [text.decode(errors="replace") for text in found]
            entry = describe_shard(
                path, self._header.arrays, name=path.stem, spec=self._header.spec
            )
            problems = verify_shard(path, self._header, entry, full=True).problems
        except StoreError as err:
            return ids, None, [str(err)]
        known = {} if self._has_no_catalogue else self._known
        twice = [video_id for video_id in ids if video_id in known]
        if twice:
            problems.append(f"{path.name}: video {twice[0]!r} is in {known[twice[0]]} too")
        return ids, entry, problems

    def _keep_sound(self, path: Path, unit: str | None, *, is_kept: Callable[[str], bool]) -> None:
        """Write the sound videos of a shard to a new one, which takes the place of `unit`."""
        with ExitStack() as opened:
            videos: dict[str, StoredVideo] = {}
            with suppress(StoreError):
                sound = open_sound_videos(path, self._header.arrays, spec=self._header.spec)
                for video in opened.enter_context(sound):
                    if is_kept(video.record.id) and self._is_of_a_source(video):
                        videos.setdefault(video.record.id, video)
            if not videos:
                return
            new = self.catalogue.new_name(f"{self._run_id}.r{len(self.damaged):04d}")
            supersedes = {} if unit is None else {unit: tuple(videos)}
            arrays, spec = self._header.arrays, self._header.spec
            shard = write_copies(list(videos.values()), self._shards, arrays, spec=spec, name=new)
            shard.publish(self._shards, self._announce, supersedes)

    def _is_of_a_source(self, video: StoredVideo) -> bool:
        return any(source.id == video.record.source for source in self._header.sources)

    def drop_index(self) -> None:
        """Remove the index, to be made anew."""
        path = self._store / INDEX_NAME
        if path.is_dir():
            self._set_aside(path)
        path.unlink(missing_ok=True)

    def check_partial(self, partial: Path) -> None:
        """Set a partial aside that cannot be salvaged."""
        raw = [array.raw for array in self._header.arrays]
        try:
            ShardReader(partial, raw, spec=self._header.spec)
        except StoreError as err:
            self.damaged[partial.name] = [str(err)]
            self._set_aside(partial)

    def _problems(self, path: Path, entry: ShardEntry) -> list[str]:
        if problem := size_problem(self._store, entry):
            return [problem]
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
                reader = self._open(path)
                # Up to the last one in use: where one before it is not, it was lost.
                last = np.flatnonzero(reader.table["id"])
                used = reader.table[: last[-1] + 1 if len(last) else 0]
                return all(is_committed(used[i : i + 1]) for i in range(len(used)))
        return False

    @cached_property
    def _known(self) -> dict[str, str]:
        """Id -> the listed shard where it lies."""
        return {i: name for name in self.catalogue.shards for i in self._ids_of(name)}

    def _ids_of(self, name: str) -> list[str]:
        """Return the ids in a listed shard that are not superseded."""
        dead = self.catalogue.superseded.get(name, set())
        with suppress(StoreError):
            reader = self._open(self._shards / name)
            return [record.id for record in reader.records() if record.id not in dead]
        return []

    def _open(self, path: Path) -> ShardReader:
        return ShardReader(path, self._header.arrays, spec=self._header.spec)

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


def _sound_index(store: Path) -> StoreIndex | None:
    """Return the index as it was, which tells what is lost; None where its ids are none."""
    index = read_index(store)
    with suppress(UnsafeStoreError):
        if index is not None and len(index.video_ids) == len(index.ids):
            return index
    return None


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
