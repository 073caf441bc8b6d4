"""The shards that a unit of a plan becomes: sealed by whoever comes first, no video in two of them.

Whoever works on a unit links what it wrote to the next name that the unit's shards may have, which
succeeds once, on network disks too. Who comes second sees what the first one sealed, and adds only
the videos that are missing. So nothing is stored twice, however late a worker comes back that was
thought dead.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from features_store.appending import Appender
from features_store.catalogue import PARTIAL
from features_store.claim import new_attempt
from features_store.errors import DamageError, MachineError, StoreError
from features_store.format.disk import fsync_path
from features_store.format.records import is_committed
from features_store.metadata import StoreHeader
from features_store.planned import part_names
from features_store.shards.copy import StoredVideo
from features_store.shards.reader import ShardReader
from features_store.shards.sealing import NewShard, describe_shard, seal_by_copy, write_copies

logger = logging.getLogger("cubereel")
VIEW_SECONDS, POLL_SECONDS = 120.0, 0.1  # network disks show new files late, for up to a minute
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class UnitParts:
    """The shards of one unit.

    Args:
        store: its folder.
        unit: the name of its first shard, ``<id>-<generation>``.
        supersedes: unit -> ids that lie there until now.
        appender: to the store's catalogue.
    """

    def __init__(
        self,
        store: Path,
        header: StoreHeader,
        unit: str,
        *,
        supersedes: Mapping[str, tuple[str, ...]],
        appender: Appender,
    ) -> None:
        self._store, self._shards, self._header = store, store / "shards", header
        self._appender = appender
        self._unit, self._supersedes = unit, supersedes

    def finish(self, own: str) -> dict[str, str]:
        """Seal and list what attempts before left of the unit.

        Args:
            own: name of the attempt of this process.

        Returns:
            Video id -> its status, of all videos that are sealed now.
        """
        self._list_sealed()
        for partial in self._partials_of_others(own):
            try:
                shard = self._sealed_copy(partial)
            except FileNotFoundError:
                continue  # another one was faster
            except DamageError as err:
                logger.warning("what a worker left cannot be used: %s", err)
                continue
            if shard is not None:
                self.publish(shard)
        sealed: dict[str, str] = {}
        for name in self._names():
            sealed |= self._videos(self._shards / f"{name}.h5")
        return sealed

    def publish(self, shard: NewShard) -> None:
        """Seal a shard under the next name that this unit's shards may have, and list it.

        Raises:
            StoreError: the disk has no hard links.
        """
        left: NewShard | None = shard
        for name in part_names(self._unit):
            if left is None:
                return
            sealed = self._shards / f"{name}.h5"
            try:
                os.link(self._shards / left.content, sealed)
            except FileExistsError:
                left = self._without(left, self._videos(_seen(sealed)))
                continue
            except FileNotFoundError:
                if not self._shards.is_dir():
                    raise
                self.say_lost()
                return
            except OSError as err:
                if err.errno in NO_LINKS:
                    raise StoreError(
                        f"the disk of {self._store} has no hard links ({err.strerror}), by which "
                        "workers tell who was first; put the store on another disk"
                    ) from err
                raise
            fsync_path(self._shards)
            self._remove(left)
            self._list(replace(left, entry=replace(left.entry, name=name), content=sealed.name))
            return

    def say_lost(self) -> None:
        """Say that another worker thought this one dead, and sealed what it had written."""
        logger.warning("another worker took unit %s over", self._unit)

    def _names(self) -> list[str]:
        """Return the names of those shards that are there."""
        names: list[str] = []
        for name in part_names(self._unit):
            if not (self._shards / f"{name}.h5").exists():
                break
            names.append(name)
        return names

    def _list_sealed(self) -> None:
        names = self._names()
        if not names:
            return
        listed = self._appender.names()
        for name in names:
            if name not in listed:
                self._list_as_it_is(name)

    def _list_as_it_is(self, name: str) -> None:
        """List a shard that was sealed and not listed."""
        arrays, spec = self._header.arrays, self._header.spec
        entry = describe_shard(self._shards / f"{name}.h5", arrays, name=name, spec=spec)
        self._list(NewShard(entry, entry.file_name))

    def _list(self, shard: NewShard) -> None:
        entry = shard.entry
        if self._supersedes:
            there = self._videos(self._shards / shard.content)
            supersedes = {
                unit: tuple(video_id for video_id in ids if video_id in there)
                for unit, ids in self._supersedes.items()
            }
            entry = replace(entry, supersedes={u: ids for u, ids in supersedes.items() if ids})
        self._appender.append(entry)

    def _partials_of_others(self, own: str) -> list[Path]:
        unit_id, _, generation = self._unit.rpartition("-")
        mine = own.rpartition("-")[0]
        found = self._shards.glob(f"{unit_id}.by.*-{generation}{PARTIAL}")
        return sorted(path for path in found if not path.name.startswith(mine))

    def _sealed_copy(self, partial: Path) -> NewShard | None:
        arrays, spec = self._header.arrays, self._header.spec
        return seal_by_copy(partial, arrays, spec=spec, name=new_attempt(self._unit))

    def _videos(self, path: Path) -> dict[str, str]:
        """Return id -> status of the videos in a shard, or in a partial."""
        reader = self._open(path)
        rows = (reader.table[place : place + 1] for place in range(len(reader.table)))
        found = ((row["id"][0], row["status"][0]) for row in rows if is_committed(row))
        return {video_id.decode(): status.decode() for video_id, status in found}

    def _open(self, path: Path) -> ShardReader:
        is_raw = path.name.endswith(PARTIAL)
        arrays = self._header.arrays
        shown = [array.raw for array in arrays] if is_raw else arrays
        return ShardReader(path, shown, spec=self._header.spec)

    def _without(self, shard: NewShard, taken: Mapping[str, str]) -> NewShard | None:
        """Return a shard without videos that another one has; None if none is left."""
        path = self._shards / shard.content
        ids = self._videos(path)
        if not ids.keys() & taken.keys():
            return shard
        left = None
        reader = self._open(path)
        records = [reader.record(place) for place in range(reader.num_videos)]
        videos = [StoredVideo(r, lambda: reader) for r in records if r.id not in taken]
        if videos:
            arrays, spec = self._header.arrays, self._header.spec
            name = new_attempt(self._unit)
            left = write_copies(videos, self._shards, arrays, spec=spec, name=name)
        self._remove(shard)
        return left

    def _remove(self, shard: NewShard) -> None:
        """Remove what is sealed now, or not needed."""
        for name in (shard.content, shard.partial):
            if name:
                (self._shards / name).unlink(missing_ok=True)


def _seen(path: Path) -> Path:
    """Wait until this machine sees a file that another one has made."""
    deadline = time.monotonic() + VIEW_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise MachineError(
                f"{path} is said to exist, and is not seen for {VIEW_SECONDS:.0f} s; see to the "
                "network disk and run the same command again"
            )
        time.sleep(POLL_SECONDS)
    return path
