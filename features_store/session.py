"""Extending a store: one session at a time, unit by unit, nothing lost that was committed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Lock

from features_store.appending import with_claimed
from features_store.catalogue import FILE_NAME as CATALOGUE_NAME
from features_store.catalogue import (
    PARTIAL,
    SEALING,
    UNIT,
    Catalogue,
    ShardEntry,
    read_catalogue,
    write_catalogue,
)
from features_store.errors import StoreError, UsageError
from features_store.format.disk import file_checksum, fsync_path
from features_store.format.outputs import remove_leftovers
from features_store.format.records import VideoRecord
from features_store.format.regular_file import check_own, check_own_folder
from features_store.index import load_index
from features_store.listing import is_pending, sealed_unlisted
from features_store.locking import UNITS, lock_store
from features_store.metadata import FILE_NAME, StoreHeader, read_header, reconcile, write_header
from features_store.paths import NEW_FOLDER
from features_store.shards.copy import StoredVideo
from features_store.shards.sealing import NewShard, describe_shard, seal_by_copy, write_copies
from features_store.sources import SourceTerms, join_sources
from features_store.store import Store
from features_store.unit_writer import UnitWriter


class StoreSession:
    """Whoever coordinates what is added to a store; there is one at a time. A context manager.

    On entry the store is made, or checked against `header`, and what a killed run left behind is
    salvaged. On exit the index is brought up to date. Units are written by `UnitWriter`, here or in
    other processes, and listed by `publish`.

    Args:
        header: of the store; its first source is that of the videos that units add.
        run_id: unique to this run; unit names begin with it, so that none is ever used again.
    """

    def __init__(self, path: Path, header: StoreHeader, *, run_id: str) -> None:
        self.path = path
        self.header = header
        self.salvaged: list[Path] = []
        self.source = header.sources[0].id
        self._shards = path / "shards"
        self.run_id = run_id
        self._num_units = 0
        self._naming = Lock()

    def __enter__(self) -> StoreSession:
        _require_store_or_nothing(self.path)
        for name in ("shards", "failures", "runs"):
            check_own_folder(self.path / name)
        (self.path / "shards").mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(lock_store(self.path))
            if (self.path / FILE_NAME).exists():
                stored = read_header(self.path)
                self.header = reconcile(stored, self.header, store=self.path)
                if self.header != stored:
                    write_header(self.path, self.header)
            else:
                # In this order: with `store.json` it is a store.
                write_catalogue(self.path, Catalogue(self.header.spec.digest))
                write_header(self.path, self.header)
            listed = read_catalogue(self.path, spec_digest=self.header.spec.digest)
            self._catalogue = with_claimed(self.path, listed)
            if len(self._catalogue.entries) > len(listed.entries):
                write_catalogue(self.path, self._catalogue)
            self._salvage()
            self._before = stack.enter_context(Store(self.path))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stack:
            if kind is None:
                load_index(self.path, self.header, self._catalogue)

    def find(self, video_id: str) -> VideoRecord | None:
        """Return the record of a video that was in the store when it was opened."""
        return self._before.video(video_id) if video_id in self._before else None

    def records(self) -> Iterator[VideoRecord]:
        """Yield the record of every video that was in the store when it was opened."""
        return self._before.records()

    def unit_of(self, video_id: str) -> str | None:
        """Return the name of the unit in which a video lay when the store was opened."""
        found = _superseded([video_id], self._before)
        return next(iter(found), None)

    def add_sources(self, sources: Sequence[SourceTerms]) -> None:
        """Add sources of other stores to this one's; raise `StoreError` where they disagree."""
        joined = replace(self.header, sources=join_sources(self.header.sources, sources))
        if joined != self.header:
            self.header = joined
            write_header(self.path, joined)

    def new_name(self) -> str:
        """Return the name of a new unit, which no shard has or had."""
        self._num_units += 1
        return self._catalogue.new_name(f"{self.run_id}.{self._num_units:04d}")

    def unit(self, *, rows: int, video_ids: list[str]) -> UnitWriter:
        """Open a unit that this process writes; `rows` is an estimate and may be exceeded."""
        return UnitWriter(
            self.path,
            self.header,
            self.new_name(),
            source=self.source,
            rows=rows,
            video_ids=video_ids,
            publish=self.publish,
        )

    def add_copies(self, videos: Sequence[StoredVideo]) -> Path:
        """Add a shard with videos that other shards hold, as this store encodes them."""
        arrays, spec = self.header.arrays, self.header.spec
        shard = write_copies(videos, self._shards, arrays, spec=spec, name=self.new_name())
        return self.publish(shard)

    def publish(self, shard: NewShard) -> Path:
        """List a shard and give it its name; its videos supersede those of the same ids.

        From any thread, one at a time, so that only the last entry of a catalogue can be one whose
        shard has no name yet.
        """
        with self._naming:
            return self._publish(shard, self._before)

    def _publish(self, shard: NewShard, before: Store) -> Path:
        ids = []
        if len(before):
            ids = shard.ids(self._shards, self.header.arrays, spec=self.header.spec)
        return shard.publish(self._shards, self._announce, _superseded(ids, before))

    def _list_as_it_is(self, name: str) -> None:
        """List a shard that a worker sealed, and was killed."""
        arrays, spec = self.header.arrays, self.header.spec
        shard = self._shards / f"{name}.h5"
        new = NewShard(describe_shard(shard, arrays, name=name, spec=spec), shard.name)
        with Store(self.path) as before:
            ids = new.ids(self._shards, arrays, spec=spec)
            self._announce(replace(new.entry, supersedes=_superseded(ids, before)))
        self.salvaged.append(shard)

    def _announce(self, entry: ShardEntry) -> None:
        longer = self._catalogue.with_entry(entry)
        write_catalogue(self.path, longer)
        self._catalogue = longer

    def _salvage(self) -> None:
        shards = self._shards
        self._catalogue, self.salvaged = finish_pending(self.path, self._catalogue)
        for name in sealed_unlisted(self.path, self._catalogue):
            self._list_as_it_is(name)
        for leftover in shards.glob(f"*{SEALING}"):
            leftover.unlink()
        for folder in (self.path, shards, self.path / "runs"):
            remove_leftovers(folder)
        for partial in sorted(shards.glob(f"*{PARTIAL}")):
            name = partial.name.removesuffix(PARTIAL)
            if f"{name}.h5" in self._catalogue.shards:
                partial.unlink()  # sealed by copy, and then the run was killed
                continue
            unit = UNIT.fullmatch(name)
            if unit is None or any(entry.name == name for entry in self._catalogue.entries):
                name = self._catalogue.new_name(unit["id"] if unit else self.run_id)
            arrays, spec = self.header.arrays, self.header.spec
            shard = seal_by_copy(partial, arrays, spec=spec, name=name)
            if shard is not None:
                with Store(self.path) as before:
                    self.salvaged.append(self._publish(shard, before))


def finish_pending(store: Path, catalogue: Catalogue) -> tuple[Catalogue, list[Path]]:
    """Finish what a kill interrupted between listing a shard and renaming it.

    Returns:
        The catalogue, and the shards that got their names. One that is not as it was listed is
        listed as removed now; what is left of it is salvaged as another.
    """
    named = []
    for entry in catalogue.shards.values():
        if not is_pending(store, entry):
            continue
        shard = store / "shards" / entry.file_name
        for content in (shard.with_name(entry.name + end) for end in (SEALING, PARTIAL)):
            check_own(content)
            if content.exists() and file_checksum(content) == entry.xxh3_128:
                content.rename(shard)
                fsync_path(shard.parent)
                named.append(shard)
                break
        else:
            catalogue = catalogue.with_entry(ShardEntry(entry.name))
            write_catalogue(store, catalogue)
    return catalogue, named


def _superseded(video_ids: Sequence[str], before: Store) -> dict[str, tuple[str, ...]]:
    """Return unit -> those of the ids that lie there until now."""
    units: dict[str, list[str]] = {}
    for video_id in video_ids:
        if video_id in before:
            unit = before.shard_of(video_id).removesuffix(".h5")
            units.setdefault(unit, []).append(video_id)
    return {unit: tuple(ids) for unit, ids in units.items()}


def _require_store_or_nothing(path: Path) -> None:
    """Refuse a folder with other things in it; a store killed in its first instant is neither."""
    NEW_FOLDER.require(path)
    if path.exists() and not (path / FILE_NAME).exists():
        own = ("shards", ".lock", CATALOGUE_NAME, UNITS)
        others = [p.name for p in path.iterdir() if p.name not in own]
        begun = (f".{FILE_NAME}", f".{CATALOGUE_NAME}")
        if others and not all(name.startswith(begun) for name in others):
            raise UsageError(
                f"{path} holds other things than a store ({others[0]!r}); give `out` a new folder"
            )
        if any((path / "shards").glob("*.h5")):
            raise StoreError(
                f"{path} has shards and no {FILE_NAME}: it was lost, or not copied; copy it again, "
                "or give `out` a new folder"
            )
