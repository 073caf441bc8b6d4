"""Which rows of which shards are a store's cubes: those of its videos, in the order of the files.

The order is that of the shards' names, and within a shard that of its rows. Rows of videos that a
newer shard supersedes are left out, as are those of videos that are not wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from features_store.errors import ContractError, DamageError
from features_store.format.layout import ArraySpec, cube_path
from features_store.index import open_shard
from features_store.shards.reader import ShardReader
from features_store.store import Store
from features_store.views import CENTER
from pipelines.statistics.blocks import Block, cut_runs, join_runs

BLOCK_BYTES = 2**25  # of a block's chunks, as they are read


@dataclass(frozen=True)
class Place:
    """Where a task finds rows; all that it takes along besides its block.

    Attributes:
        path: of the store, absolute.
        revision: of the store, in hex.
        array: path of the dataset in each shard.
    """

    path: str
    revision: str
    array: str


@dataclass(frozen=True)
class StoreRows:
    """The rows of one array of some videos of a store, in blocks; nothing is read yet.

    Attributes:
        array: what a row is, as it is read.
        video_ids, lengths: the videos in the order of their rows, and the frames of each.
    """

    place: Place
    array: ArraySpec
    blocks: tuple[Block, ...]
    video_ids: tuple[str, ...]
    lengths: tuple[int, ...]

    @property
    def num_frames(self) -> int:
        """Frames of all videos."""
        return sum(self.lengths)


def cubes_of(store: Store, *, layer: str | None = None, view: str = CENTER) -> ArraySpec:
    """Return the array of a layer's cubes; the top layer unless one is named.

    Raises:
        UsageError: the store holds no such layer or view.
    """
    header = store.header
    name = header.layers[-1].name if layer is None else header.layer(layer).name
    path = cube_path(header.require_view(view), name)
    return next(array for array in store.header.arrays if array.path == path)


def plan_rows(
    store: Store,
    array: ArraySpec,
    *,
    video_ids: Collection[str] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> StoreRows:
    """Return the rows of some videos, or of all, cut into blocks. Opens every shard once.

    Args:
        block_bytes: a block's chunks have at most so many bytes as they are read, or it is one.

    Raises:
        StoreError: a video is not in the store, or two videos claim the same row.
        ContractError: there is no video.
    """
    wanted = _positions(store, video_ids)
    if not len(wanted):
        raise ContractError(f"{store.path} holds no frames; 'cubereel extract' adds videos")
    blocks: list[Block] = []
    ids: list[str] = []
    lengths: list[int] = []
    for number in np.unique(store.index.shard[wanted]).tolist():
        name = store.index.shards[number]
        there = wanted[store.index.shard[wanted] == number]
        shard = open_shard(store.path, store.header, store.catalogue, name)
        videos = sorted(_places(store, shard, there))
        chunk_rows = shard.chunk_rows_of(array.path)
        _require_apart(videos, shard)
        runs = join_runs((offset, offset + length) for offset, length, _ in videos)
        max_chunks = max(1, block_bytes // (chunk_rows * array.row_bytes))
        cut = cut_runs(runs, chunk_rows=chunk_rows, max_chunks=max_chunks)
        blocks += [Block(name, block) for block in cut]
        lengths += [length for _, length, _ in videos]
        ids += [video_id for _, _, video_id in videos]
    place = Place(str(store.path.absolute()), store.revision, array.path)
    return StoreRows(place, array, tuple(blocks), tuple(ids), tuple(lengths))


def _positions(store: Store, video_ids: Collection[str] | None) -> np.ndarray:
    """Return positions in the index, rising."""
    if video_ids is None:
        return np.arange(len(store))
    return np.unique(np.array([store.position(video_id) for video_id in video_ids], np.int64))


def _places(
    store: Store, shard: ShardReader, positions: np.ndarray
) -> Iterator[tuple[int, int, str]]:
    """Yield offset, length and id of videos of one shard."""
    for position in positions.tolist():
        video_id = bytes(store.index.ids[position])
        offset, length = shard.place(int(store.index.row[position]), video_id)
        if length != store.index.length[position]:
            raise DamageError(
                f"{store.path}/index.h5 says {store.index.length[position]} frames of "
                f"{video_id.decode()!r}, its shard has {length}; delete index.h5"
            )
        yield offset, length, video_id.decode()


def _require_apart(videos: list[tuple[int, int, str]], shard: ShardReader) -> None:
    for (offset, length, one), (start, _, other) in pairwise(videos):
        if start < offset + length:
            raise DamageError(
                f"{shard.path.name}: videos {one!r} and {other!r} claim the same rows; "
                "run 'cubereel store verify'"
            )
