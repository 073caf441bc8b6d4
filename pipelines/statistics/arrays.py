"""A store as a lazy array of Dask, cut along the chunks of its files.

A task opens its shard by itself, through the store's own checks; what travels is small. So the
same array is computed by threads, by processes, or by a cluster that sees the store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features_store.errors import ContractError, StoreError
from features_store.format.layout import ArraySpec, chunk_rows, cube_path
from features_store.format.shard_size import chunk_bytes_of
from features_store.index import open_shard
from features_store.metadata import read_header
from features_store.store import Store

BLOCK_BYTES = 2**26  # of a block as it is read, about


@dataclass(frozen=True)
class StoreCubes:
    """The cubes of a layer as a lazy array, and what they are of.

    Attributes:
        array: dask array (n, K, K, D) of the rows of all videos, shard by shard.
        revision: of the store; what is added to it later is not seen.
    """

    array: Any
    store: str
    spec_digest: str
    revision: str
    layer: str
    view: str

    @property
    def num_frames(self) -> int:
        """Rows."""
        return int(self.array.shape[0])


@dataclass(frozen=True)
class Block:
    """Rows of a shard that one task reads: ranges (start, stop), rising."""

    shard: str
    ranges: tuple[tuple[int, int], ...]

    @property
    def num_rows(self) -> int:
        """Of all its ranges."""
        return sum(stop - start for start, stop in self.ranges)


def store_cubes(
    store: str | Path,
    *,
    layer: str | None = None,
    view: str = "center",
    split: str | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> StoreCubes:
    """Return a store's cubes as a lazy array; only the tables of its shards are read.

    Args:
        layer: the top one unless named.
        split: as the store's manifest has it; None is all videos.

    Raises:
        StoreError: there is no such layer or view.
        ContractError: there are no such videos.
    """
    import dask.array as da
    from dask import delayed

    with Store(store) as opened:
        name = opened.header.layers[-1].name if layer is None else opened.header.layer(layer).name
        if view not in opened.header.views:
            views = ", ".join(opened.header.views)
            raise StoreError(f"no view {view!r} in {store}; it holds: {views}")
        array = next(a for a in opened.header.arrays if a.path == cube_path(view, name))
        blocks = list(_blocks(opened, array, _chosen(opened, split), block_bytes))
        revision, digest = opened.revision, opened.header.spec.digest
    path = str(Path(store).absolute())
    parts = [
        da.from_delayed(
            delayed(read_block, pure=True)(path, revision, array.path, block),
            shape=(block.num_rows, *array.row_shape),
            dtype=array.dtype,
        )
        for block in blocks
    ]
    return StoreCubes(da.concatenate(parts), path, digest, revision, name, view)


def _chosen(store: Store, split: str | None) -> Collection[str]:
    ids = store.ids
    if split is not None:
        manifest = store.manifest
        ids = [i for i in ids if i in manifest and manifest[i].split == split]
    if not ids:
        known = sorted({row.split for row in store.manifest.values() if row.split})
        said = "no video" if split is None else f"no video of `split` {split!r}"
        raise ContractError(
            f"{store.path} has {said}; its splits are: {', '.join(known) or 'none'}"
        )
    return ids


def _blocks(
    store: Store, array: ArraySpec, ids: Collection[str], block_bytes: int
) -> Iterator[Block]:
    places: dict[str, list[tuple[int, int]]] = {}
    for video_id in ids:
        record = store.video(video_id)
        rows = (record.offset, record.offset + record.length)
        places.setdefault(store.shard_of(video_id), []).append(rows)
    for shard in sorted(places):
        with closing(open_shard(store.path, store.header, store.catalogue, shard)) as reader:
            num_rows = reader.num_rows
        chunk = chunk_rows(array.stored_row_bytes, num_rows, chunk_bytes=chunk_bytes_of(array))
        step = chunk * max(1, block_bytes // (chunk * array.row_bytes))
        for ranges in cut_ranges(sorted(places[shard]), step):
            yield Block(shard, ranges)


def cut_ranges(
    ranges: Sequence[tuple[int, int]], step: int
) -> Iterator[tuple[tuple[int, int], ...]]:
    """Yield ranges of rows, cut and gathered so that none crosses a multiple of `step`.

    >>> list(cut_ranges([(0, 3), (3, 5), (9, 10)], 4))
    [((0, 4),), ((4, 5),), ((9, 10),)]
    """
    gathered: list[list[int]] = []
    for start, stop in ranges:
        while start < stop:
            end = min(stop, (start // step + 1) * step)
            if gathered and gathered[0][0] // step != start // step:
                yield tuple((first, last) for first, last in gathered)
                gathered = []
            if gathered and gathered[-1][1] == start:
                gathered[-1][1] = end
            else:
                gathered.append([start, end])
            start = end
    if gathered:
        yield tuple((first, last) for first, last in gathered)


def read_block(store: str, revision: str, array: str, block: Block) -> np.ndarray:
    """Return the rows (n, …) of a block; for tasks, wherever they run.

    Raises:
        DamageError: the shard is not what it was.
    """
    path = Path(store)
    header = read_header(path)
    with Store(path, revision=revision) as opened:
        catalogue = opened.catalogue
    with closing(open_shard(path, header, catalogue, block.shard)) as reader:
        rows = [reader.rows(array, start, stop) for start, stop in block.ranges]
        result = np.concatenate(rows) if len(rows) > 1 else np.array(rows[0])
        reader.release()
    return result
