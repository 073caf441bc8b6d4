"""A store's cubes as a lazy dask array, for any scheduler.

A task carries the store's path, its revision and the rows of its block. It opens the shard itself,
with every check that a reader makes, and reads each chunk of its block once. Blocks are those of
`plan_rows`, so that no chunk is read by two tasks.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features_store.catalogue import Catalogue
from features_store.index import open_shard
from features_store.listing import open_catalogue
from features_store.metadata import StoreHeader, read_header
from features_store.shards.reader import ShardReader
from features_store.store import Store
from features_store.views import CENTER
from pipelines.statistics.blocks import Run, reads_of
from pipelines.statistics.rows import BLOCK_BYTES, Place, StoreRows, cubes_of, plan_rows

if TYPE_CHECKING:
    import dask.array as da


def store_array(
    store: Store,
    *,
    layer: str | None = None,
    view: str = CENTER,
    video_ids: Collection[str] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> da.Array:
    """Return cubes (frames, K, K, D) of a store's videos, lazily, as float16 or float32.

    Args:
        video_ids: of these videos alone; their order is still that of `plan_rows`.
        block_bytes: see `plan_rows`.

    >>> cubes = store_array(Store("fight.cubes"))       # doctest: +SKIP
    >>> cubes.max(axis=(0, 1, 2)).compute().shape       # doctest: +SKIP
    (1024,)
    """
    array = cubes_of(store, layer=layer, view=view)
    return as_dask(plan_rows(store, array, video_ids=video_ids, block_bytes=block_bytes))


def as_dask(rows: StoreRows) -> da.Array:
    """Return planned rows as a dask array whose blocks are those of the plan."""
    import dask.array as da
    from dask.base import tokenize

    blocks = np.empty(len(rows.blocks), object)
    blocks[:] = rows.blocks
    token = tokenize(rows.place, rows.blocks)
    chunks = (tuple(block.num_rows for block in rows.blocks), *((n,) for n in rows.array.row_shape))
    return da.from_array(blocks, chunks=1, name=f"rows-{token}").map_blocks(
        partial(read_block, place=rows.place),
        name=f"cubes-{token}",
        chunks=chunks,
        new_axis=list(range(1, len(chunks))),
        dtype=rows.array.dtype,
        meta=np.empty((0,) * len(chunks), rows.array.dtype),
    )


def read_block(blocks: np.ndarray, *, place: Place) -> np.ndarray:
    """Return the rows of the one block that `blocks` (1,) holds, in memory of their own."""
    (block,) = blocks
    shard = _open(place, block.shard)
    groups = reads_of(block.runs, chunk_rows=shard.chunk_rows_of(place.array))
    pieces = [piece for group in groups for piece in _read_group(shard, place.array, group)]
    rows = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return rows if rows.flags.owndata else rows.copy()


def _read_group(shard: ShardReader, array: str, group: list[Run]) -> Iterator[np.ndarray]:
    """Read from the first row of a group to its last, once; yield the rows of each run."""
    first, last = group[0][0], group[-1][1]
    stored = shard.stored_rows(array, first, last)
    for start, stop in group:
        yield shard.decode(array, stored[start - first : stop - first])


@lru_cache(maxsize=8)
def _pinned(path: str, revision: str) -> tuple[StoreHeader, Catalogue]:
    """Return what a store says of itself, and its shards at a revision; once for each process."""
    store = Path(path)
    header = read_header(store)
    return header, open_catalogue(store, spec_digest=header.spec.digest).at(revision)


class _Opened(threading.local):
    """The shard that a thread read last: the next block is most often of the same."""

    key: tuple[object, ...] = ()
    shard: ShardReader | None = None


_opened = _Opened()


def _open(place: Place, name: str) -> ShardReader:
    # HDF5 handles do not survive a fork, so the process is part of the key.
    key = (os.getpid(), place.path, place.revision, name)
    if _opened.shard is None or _opened.key != key:
        header, catalogue = _pinned(place.path, place.revision)
        _opened.shard, _opened.key = open_shard(Path(place.path), header, catalogue, name), key
    return _opened.shard
