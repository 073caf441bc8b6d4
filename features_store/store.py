"""Reading a store: ids in, arrays out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from features_store.errors import StoreError, nearest_name
from features_store.header import StoreHeader, read_header
from features_store.index import StoreIndex, load_index
from features_store.layout import cube_path
from features_store.manifest import ManifestRow, read_store_manifest
from features_store.records import VideoRecord, unpack_record
from features_store.shard_reader import open_shard


class Store:
    """A feature store, open for reading.

    Shards are opened when first read, once per process; a `Store` can be pickled and used after a
    fork. Windows are read as slices.

    >>> store = Store("fight.cubes")                            # doctest: +SKIP
    >>> store.cubes("fight/fi001.mp4", start=0, stop=16).shape  # doctest: +SKIP
    (16, 7, 7, 1024)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.header: StoreHeader = read_header(self.path)
        self.index: StoreIndex = load_index(self.path, self.header)
        self._files: dict[tuple[int, int], tuple[h5py.File, np.ndarray]] = {}

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
        return [video_id.decode() for video_id in self.index.ids]

    @property
    def num_frames(self) -> int:
        """Frames of all videos."""
        return int(self.index.length.sum())

    @property
    def manifest(self) -> dict[str, ManifestRow]:
        """What is said about videos (label, group, split), by id; read anew each time."""
        return read_store_manifest(self.path)

    def num_frames_of(self, video_id: str) -> int:
        """Return the frames kept of a video, from the index alone."""
        return int(self.index.length[self._position(video_id)])

    def shard_of(self, video_id: str) -> str:
        """Return the file name of the shard that holds a video."""
        return self.index.shards[int(self.index.shard[self._position(video_id)])][0]

    def video(self, video_id: str) -> VideoRecord:
        """Return the record of a video."""
        _, table, row = self._place(video_id)
        return unpack_record(table[row : row + 1])

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
        self, video_id: str, array: str, *, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Return rows of any per-frame array (``diffs/center``, ``pts_seconds``, …) of a video."""
        file, table, row = self._place(video_id)
        paths = [spec.path for spec in self.header.arrays]
        if array not in paths:
            raise StoreError(f"no array {array!r} in {self.path}; {nearest_name(array, paths)}")
        offset, length = int(table["offset"][row]), int(table["length"][row])
        first, last, _ = slice(start, stop).indices(length)
        rows: np.ndarray = file[array][offset + first : offset + max(first, last)]
        return rows

    def records(self) -> Iterator[VideoRecord]:
        """Yield the record of every video, in the order of ids."""
        for video_id in self.ids:
            yield self.video(video_id)

    def close(self) -> None:
        """Close the shards that this process opened."""
        for (pid, _), (file, _) in self._files.items():
            if pid == os.getpid():
                file.close()
        self._files = {}

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}

    def _position(self, video_id: str) -> int:
        position = self.index.find(video_id)
        if position is None:
            raise StoreError(f"no video {video_id!r} in {self.path} ({len(self)} videos)")
        return position

    def _place(self, video_id: str) -> tuple[h5py.File, np.ndarray, int]:
        position = self._position(video_id)
        shard = int(self.index.shard[position])
        # HDF5 handles do not survive a fork, so each process has its own.
        key = (os.getpid(), shard)
        if key not in self._files:
            path = self.path / "shards" / self.index.shards[shard][0]
            file = open_shard(path, self.header.arrays, digest=self.header.spec.digest)
            self._files[key] = (file, file["videos"][:])
        file, table = self._files[key]
        return file, table, int(self.index.row[position])
