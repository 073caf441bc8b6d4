"""Extending a store: one writer at a time, unit by unit, nothing lost that was committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

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
from features_store.errors import CubereelError, StoreError
from features_store.format.disk import check_folder, file_checksum, fsync_path, remove_leftovers
from features_store.format.records import VideoRecord, check_id
from features_store.format.safety import check_own
from features_store.format.shard_size import is_sealed_in_place
from features_store.index import load_index
from features_store.listing import is_pending
from features_store.locking import lock_store
from features_store.metadata import FILE_NAME, StoreHeader, read_header, reconcile, write_header
from features_store.shards.copy import StoredVideo
from features_store.shards.sealing import Sealer
from features_store.shards.writer import ShardWriter
from features_store.sources import SourceTerms, join_sources
from features_store.store import Store


class StoreWriter:
    """The one writer of a store; a context manager.

    On entry the store is made, or checked against `header`, and what a killed run left behind is
    salvaged. On exit the index is brought up to date.

    Args:
        header: of the store; its first source is that of the videos that `unit` writes.
        run_id: unique to this run; unit names begin with it, so that none is ever used again.
    """

    def __init__(self, path: Path, header: StoreHeader, *, run_id: str) -> None:
        self.path = path
        self.header = header
        self.salvaged: list[Path] = []
        self.source = header.sources[0].id
        self._run_id = run_id
        self._num_units = 0
        self._naming = Lock()

    def __enter__(self) -> StoreWriter:
        _require_store_or_nothing(self.path)
        (self.path / "shards").mkdir(parents=True, exist_ok=True)
        for name in ("shards", "failures", "runs"):
            check_own(self.path / name)
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
            self._catalogue = read_catalogue(self.path, spec_digest=self.header.spec.digest)
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

    def add_sources(self, sources: Sequence[SourceTerms]) -> None:
        """Add sources of other stores to this one's; raise `StoreError` where they disagree."""
        joined = replace(self.header, sources=join_sources(self.header.sources, sources))
        if joined != self.header:
            self.header = joined
            write_header(self.path, joined)

    def unit(self, *, rows: int, video_ids: list[str]) -> UnitWriter:
        """Open a unit with room for these videos; `rows` is an estimate and may be exceeded."""
        return UnitWriter(self, rows=rows, video_ids=video_ids)

    def add_copies(self, videos: Sequence[StoredVideo]) -> Path:
        """Add a shard with videos that other shards hold, as this store encodes them."""
        shard = self._new_shard()
        self._sealer(self._before).copies(videos, shard)
        return shard

    def new_partial(self) -> Path:
        """Return the path of a new, never used partial shard."""
        shard = self._new_shard()
        return shard.with_name(shard.name.removesuffix(".h5") + PARTIAL)

    def seal(self, writer: ShardWriter) -> Path | None:
        """Seal a closed partial of this run; its videos supersede those of the same ids."""
        shard = writer.path.with_name(writer.path.name.removesuffix(PARTIAL) + ".h5")
        sealer = self._sealer(self._before)
        in_place = is_sealed_in_place(self.header.arrays, unused_share=writer.unused_share)
        if in_place and writer.video_ids:
            sealer.in_place(writer.path, shard)
            return shard
        return shard if sealer.by_copy(writer.path, shard) else None

    def _new_shard(self) -> Path:
        self._num_units += 1
        unit = f"{self._run_id}.{self._num_units:04d}"
        return self.path / "shards" / f"{self._catalogue.new_name(unit)}.h5"

    def _sealer(self, before: Store) -> Sealer:
        return Sealer(
            self.header.arrays,
            self.header.spec,
            supersede=lambda ids: _superseded(ids, before),
            announce=self._announce,
            naming=self._naming,
        )

    def _announce(self, entry: ShardEntry) -> None:
        longer = self._catalogue.with_entry(entry)
        write_catalogue(self.path, longer)
        self._catalogue = longer

    def _salvage(self) -> None:
        shards = self.path / "shards"
        self._catalogue, self.salvaged = finish_pending(self.path, self._catalogue)
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
                name = self._catalogue.new_name(unit["id"] if unit else self._run_id)
            shard = shards / f"{name}.h5"
            with Store(self.path) as before:
                if self._sealer(before).by_copy(partial, shard):
                    self.salvaged.append(shard)


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
    check_folder(path)
    if path.exists() and not (path / FILE_NAME).exists():
        own = ("shards", ".lock", CATALOGUE_NAME)
        others = [p.name for p in path.iterdir() if p.name not in own]
        begun = (f".{FILE_NAME}", f".{CATALOGUE_NAME}")
        if others and not all(name.startswith(begun) for name in others):
            raise StoreError(
                f"{path} exists and is not a feature store (it holds {others[0]!r}); "
                "give `out` a new folder"
            )
        if any((path / "shards").glob("*.h5")):
            raise StoreError(
                f"{path} has shards and no {FILE_NAME}: it was lost, or not copied; copy it again, "
                "or give `out` a new folder"
            )


class UnitWriter:
    """Writes the videos of one unit; a context manager that seals on a regular exit.

    When a video turns out longer than planned, the shard is sealed with what it has and the video
    goes on in a larger one.
    """

    def __init__(self, store: StoreWriter, *, rows: int, video_ids: list[str]) -> None:
        self._store = store
        self._id_bytes = max(len(check_id(video_id)) for video_id in video_ids)
        self._num_videos = len(video_ids)
        self._planned_rows = max(rows, 1)
        self._shard = self._open(self._planned_rows)
        self.shards: list[Path] = []

    def __enter__(self) -> UnitWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Seal; also after an error, since what is committed is good."""
        self._shard.abandon()
        if kind is None:
            self._seal()
        else:
            # The error on its way says more than a full disk at sealing; the next run salvages.
            with suppress(OSError, RuntimeError, CubereelError):
                self._seal()

    def write_rows(self, rows: Mapping[str, np.ndarray]) -> None:
        """Append frames of the video in work: array path -> (n, …)."""
        if len(rows["pts_seconds"]) > self._shard.free_rows:
            self._move_to_larger_shard(len(rows["pts_seconds"]))
        self._shard.write_rows(rows)

    def commit(self, **record: Any) -> VideoRecord:
        """Commit the video in work; see `records.VideoRecord` for the fields."""
        return self._shard.commit(**{"source": self._store.source, **record})

    def abandon(self) -> None:
        """Forget the rows of the video in work."""
        self._shard.abandon()

    def _open(self, rows: int) -> ShardWriter:
        return ShardWriter(
            self._store.new_partial(),
            [array.raw for array in self._store.header.arrays],
            rows=rows,
            videos=self._num_videos,
            id_bytes=self._id_bytes,
            spec=self._store.header.spec,
        )

    def _move_to_larger_shard(self, num_new: int) -> None:
        old = self._shard
        # Where one video has more rows than planned, the next ones will.
        self._shard = self._open(max(2 * (old.num_rows_in_work + num_new), self._planned_rows))
        for rows in old.rows_in_work():
            self._shard.write_rows(rows)
        old.abandon()
        self._seal(old)

    def _seal(self, shard: ShardWriter | None = None) -> None:
        shard = shard or self._shard
        shard.close()
        sealed = self._store.seal(shard)
        if sealed is not None:
            self.shards.append(sealed)
