"""Reading a store: ids in, arrays out."""

from __future__ import annotations

import errno
import os
import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from features_store.catalogue import Catalogue
from features_store.errors import DamageError, UsageError, nearest_name
from features_store.format.layout import cube_path
from features_store.format.records import VideoRecord
from features_store.index import StoreIndex, build_index, load_index, open_shard
from features_store.listing import check_all_identities, open_catalogue
from features_store.manifest import FILE_NAME as MANIFEST_NAME
from features_store.manifest import ManifestRow, read_store_manifest
from features_store.metadata import StoreHeader, read_header
from features_store.shards.copy import StoredVideo
from features_store.shards.reader import ShardReader

MAX_KEPT_PLACES = 100_000
MAX_COMPARED_IDS = 4000  # with one that is not there; more would take seconds
MAX_OPEN_SHARDS = 32  # a store may have more shards than a process may have open files


class Store:
    """A feature store, open for reading.

    Shards are opened when first read, by each process and thread for itself; a `Store` can be
    pickled, used after a fork and shared by threads. Windows are read as slices. What is added to
    the store later is not seen.

    Args:
        revision: what the store was at that revision; its first 8 digits or more. None: what it is.

    Raises:
        DamageError: a shard is missing, of another size, or not the store's.

    >>> store = Store("fight.cubes")                            # doctest: +SKIP
    >>> store.cubes("fight/fi001.mp4", start=0, stop=16).shape  # doctest: +SKIP
    (16, 7, 7, 1024)
    """

    def __init__(self, path: str | Path, *, revision: str | None = None) -> None:
        self.path = Path(path)
        self.header: StoreHeader = read_header(self.path)
        catalogue = open_catalogue(self.path, spec_digest=self.header.spec.digest)
        if revision is None:
            index = load_index(self.path, self.header, catalogue)
        else:
            catalogue = catalogue.at(revision)
            index = build_index(self.path, self.header, catalogue)
        self.catalogue: Catalogue = catalogue
        self.index: StoreIndex = index
        self._prepare()

    @property
    def revision(self) -> str:
        """The digest, in hex, of the shards that the store consists of."""
        return self.catalogue.revision

    def check_shards(self) -> None:
        """Raise `DamageError` unless every file is the shard that the catalogue lists, by its head.

        A shard that is read is looked at anyhow.
        """
        check_all_identities(self.path, self.catalogue)

    def _prepare(self) -> None:
        self._arrays = {array.path: array for array in self.header.arrays}
        self._local = threading.local()
        self._manifest: tuple[object, Mapping[str, ManifestRow]] | None = None  # as it was read

    def __len__(self) -> int:
        return len(self.index.ids)

    def __contains__(self, video_id: str) -> bool:
        return self.index.find(video_id) is not None

    def __repr__(self) -> str:
        layers = ", ".join(f"{la.name} {la.cube_shape}" for la in self.header.layers)
        return f"Store({str(self.path)!r}: {len(self)} videos, {self.num_frames} frames, {layers})"

    @property
    def ids(self) -> list[str]:
        """Sorted video ids."""
        return self.index.video_ids

    @property
    def num_frames(self) -> int:
        """Frames of all videos."""
        return int(self.index.length.sum())

    @property
    def manifest(self) -> Mapping[str, ManifestRow]:
        """What is said about videos (label, group, split), by id; as the file is now."""
        path = self.path / MANIFEST_NAME
        state: object = None
        with suppress(FileNotFoundError):
            status = path.stat()
            state = status.st_mtime_ns, status.st_size, status.st_ino
        if self._manifest is None or self._manifest[0] != state:
            self._manifest = state, MappingProxyType(read_store_manifest(self.path))
        return self._manifest[1]

    def num_frames_of(self, video_id: str) -> int:
        """Return the frames kept of a video, from the index alone."""
        return int(self.index.length[self.position(video_id)])

    def shard_of(self, video_id: str) -> str:
        """Return the file name of the shard that holds a video."""
        return self.index.shards[int(self.index.shard[self.position(video_id)])]

    def video(self, video_id: str) -> VideoRecord:
        """Return the record of a video."""
        return self.stored_video(video_id).record

    def stored_video(self, video_id: str) -> StoredVideo:
        """Return a video's record and the shard that it is in."""
        number, row, _, _ = self._look_up(video_id)
        return StoredVideo(self._shard(number).record(row), lambda: self._shard(number))

    def cubes(
        self,
        video_id: str,
        *,
        layer: str | None = None,
        view: str = "center",
        start: int = 0,
        stop: int | None = None,
    ) -> np.ndarray:
        """Return cubes (T, K, K, D) of frames `start` to `stop`; the top layer unless named."""
        name = self.header.layers[-1].name if layer is None else self.header.layer(layer).name
        return self.read(video_id, cube_path(view, name), start=start, stop=stop)

    def read(
        self,
        video_id: str,
        array: str,
        *,
        start: int = 0,
        stop: int | None = None,
        copy: bool = True,
    ) -> np.ndarray:
        """Return rows of any per-frame array (``diffs/center``, ``pts_seconds``, …) of a video.

        Args:
            copy: False may return a read-only view of the file, to be used at once.
        """
        self._require_array(array)
        shard, offset, length = self._place(video_id)
        first, last, _ = slice(start, stop).indices(length)
        rows = shard.rows(array, offset + first, offset + max(first, last))
        return rows if rows.flags.owndata or not copy else rows.copy()

    def take(self, video_id: str, array: str, rows: np.ndarray) -> np.ndarray:
        """Return some rows (n, …) of a video by their numbers; what lies between is not read."""
        self._require_array(array)
        shard, offset, length = self._place(video_id)
        if len(rows) and not 0 <= rows.min() <= rows.max() < length:
            raise UsageError(f"video {video_id!r} has {length} rows, not all of {rows}")
        found = np.empty((len(rows), *self._arrays[array].row_shape), self._arrays[array].dtype)
        starts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist()] if len(rows) else []
        for start, stop in pairwise([*starts, len(rows)]):
            first = offset + int(rows[start])
            found[start:stop] = shard.rows(array, first, first + stop - start)
        return found

    def _require_array(self, array: str) -> None:
        if array not in self._arrays:
            names = nearest_name(array, list(self._arrays))
            raise UsageError(f"no array {array!r} in {self.path}; {names}")

    @property
    def partial_ids(self) -> list[str]:
        """Ids of videos that broke off, of which the store has the frames before; sorted."""
        ids = self.ids
        return [ids[position] for position in np.flatnonzero(self.index.is_partial).tolist()]

    def records(self) -> Iterator[VideoRecord]:
        """Yield the record of every video, in the order of ids."""
        for video_id in self.ids:
            yield self.video(video_id)

    def media_hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every video's file, by video id."""
        return {record.id: record.media_sha256 for record in self.records()}

    def close(self) -> None:
        """Let go of the shards that are open."""
        self._local = threading.local()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        names = ("path", "header", "catalogue", "index")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._prepare()

    def position(self, video_id: str) -> int:
        """Return the position of a video in `index`; raise `UsageError` when it is not there."""
        position = self.index.find(video_id)
        if position is None:
            hint = nearest_name(video_id, self._ids_like(video_id), number=len(self))
            raise UsageError(f"no video {video_id!r} in {self.path}; {hint}")
        return position

    def _ids_like(self, video_id: str) -> list[str]:
        """Return ids among which near ones are looked for: of many those of the same file name."""
        ids = self.ids
        if len(ids) <= MAX_COMPARED_IDS:
            return ids
        name = video_id.rpartition("/")[2].partition(".")[0].casefold()
        alike = [each for each in ids if name in each.casefold()]
        place, half = bisect_left(ids, video_id), MAX_COMPARED_IDS // 2
        return [*alike[:half], *ids[max(0, place - half) : place + half]]

    def _opened(self) -> _Opened:
        # HDF5 handles do not survive a fork, so a child begins with none.
        opened: _Opened | None = getattr(self._local, "opened", None)
        if opened is None or opened.pid != os.getpid():
            opened = self._local.opened = _Opened(os.getpid())
        return opened

    def _shard(self, position: int) -> ShardReader:
        shards = self._opened().shards
        shard = shards.get(position)
        if shard is None:
            if len(shards) >= MAX_OPEN_SHARDS:
                shards.pop(next(iter(shards)))
            try:
                shard = self._open_shard(position)
            except OSError as err:
                if err.errno != errno.EMFILE or not shards:
                    raise
                shards.clear()  # other threads have as many
                shard = self._open_shard(position)
            shards[position] = shard
        return shard

    def _open_shard(self, number: int) -> ShardReader:
        return open_shard(self.path, self.header, self.catalogue, self.index.shards[number])

    def _look_up(self, video_id: str) -> tuple[int, int, int, int]:
        """Return a video's shard, its row in the table there, offset and length.

        What the index says is compared with the record and the catalogue.
        """
        position = self.position(video_id)
        number, row = int(self.index.shard[position]), int(self.index.row[position])
        name = self.index.shards[number]
        offset, length = self._shard(number).place(row, video_id.encode())
        is_old = video_id in self.catalogue.superseded.get(name, ())
        if is_old or length != self.index.length[position]:
            raise DamageError(
                f"{self.path}/index.h5 says {self.index.length[position]} frames of {video_id!r} "
                f"in {name}, which has {length}{', superseded' * is_old}; delete index.h5"
            )
        return number, row, offset, length

    def _place(self, video_id: str) -> tuple[ShardReader, int, int]:
        """Return shard, offset and length of a video; found places are kept, as epochs repeat."""
        places = self._opened().places
        place = places.get(video_id)
        if place is None:
            number, _, offset, length = self._look_up(video_id)
            place = (number, offset, length)
            if len(places) >= MAX_KEPT_PLACES:
                places.clear()
            places[video_id] = place
        return self._shard(place[0]), place[1], place[2]


@dataclass
class _Opened:
    """What one thread of one process has open: position -> shard; id -> (shard, offset, length)."""

    pid: int
    shards: dict[int, ShardReader] = field(default_factory=dict)
    places: dict[str, tuple[int, int, int]] = field(default_factory=dict)
