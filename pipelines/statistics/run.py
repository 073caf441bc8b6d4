"""Statistics of a store from its path: what is read, in how much memory, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features_store.store import Store
from features_store.verbs.reshape import choose_videos
from features_store.views import CENTER
from pipelines.statistics.arrays import as_dask
from pipelines.statistics.memory import PcaOf, share_memory
from pipelines.statistics.moments import channel_moments, merge_two, require_finite, variance_of
from pipelines.statistics.pca import BatchedPca, cut_batches, num_kept
from pipelines.statistics.result import StatisticsOf, StoreStatistics
from pipelines.statistics.rows import StoreRows, cubes_of, plan_rows

if TYPE_CHECKING:
    import dask.array as da

MEMORY_BYTES = 2 * 10**9
BATCH_BLOCKS = 256  # without a PCA: about 8 GB, then something is shown
OnFrames = Callable[[int, int], None]  # frames done, and of how many


def store_statistics(
    path: str | Path,
    *,
    layer: str | None = None,
    view: str = CENTER,
    splits: Sequence[str] = (),
    pca: int | None = None,
    pca_of: PcaOf = "cells",
    memory_bytes: int = MEMORY_BYTES,
    on_frames: OnFrames = lambda _, __: None,
) -> StoreStatistics:
    """Return mean and variance of every channel, and components; every chunk is read once.

    Blocks are read by the threads of this process, or by a dask cluster whose client is at hand.

    Args:
        layer: the top layer unless one is named.
        splits: of the manifest; all videos unless some are named.
        pca: number of components; None for none.
        pca_of: whether they are of cells or of the means of frames.
        memory_bytes: that this process may take, itself included.

    Raises:
        UsageError: no such layer or view, more components than rows or channels, little memory.
        ContractError: no video, no such split, a value that is not finite.
    """
    with Store(path) as store:
        array = cubes_of(store, layer=layer, view=view)
        ids = choose_videos(store, set(), {"split": set(splits)}) if splits else None
        dim = array.row_shape[-1]
        per_frame = array.row_shape[0] ** 2 if pca_of == "cells" else 1
        num_frames = store.num_frames if ids is None else sum(map(store.num_frames_of, ids))
        kept = num_kept(pca, dim=dim, num_rows=num_frames * per_frame) if pca is not None else 0
        shares = share_memory(memory_bytes, array, num_kept=kept, pca_of=pca_of)
        rows = plan_rows(store, array, video_ids=ids, block_bytes=shares.block_bytes)
        of = _described(store, rows, splits)
    model = None
    batches = [(i, i + BATCH_BLOCKS) for i in range(0, len(rows.blocks), BATCH_BLOCKS)]
    if pca is not None:
        model = BatchedPca(pca, of=pca_of, dim=dim, num_rows=num_frames * per_frame)
        block_rows = [block.num_rows * per_frame for block in rows.blocks]
        batches = list(cut_batches(block_rows, shares.batch_rows))
    moments = _read(rows, batches, model, threads=shares.threads, on_frames=on_frames)
    basis = model.basis() if model is not None else None
    return StoreStatistics(of, moments["mean"].copy(), variance_of(moments), basis)


def _described(store: Store, rows: StoreRows, splits: Sequence[str]) -> StatisticsOf:
    _, view, layer = rows.array.path.split("/")
    return StatisticsOf(
        spec_digest=store.header.spec.digest,
        revision=store.revision,
        layer=layer,
        view=view,
        splits=tuple(sorted(set(splits))),
        num_videos=len(rows.video_ids),
        num_frames=rows.num_frames,
        num_rows=rows.num_frames * rows.array.row_shape[0] ** 2,
    )


def _read(
    rows: StoreRows,
    batches: Sequence[tuple[int, int]],
    model: BatchedPca | None,
    *,
    threads: int,
    on_frames: OnFrames,
) -> np.ndarray:
    """Read all blocks once, a batch at a time and in order; return their `MOMENTS` (D,)."""
    import dask

    cubes: da.Array = as_dask(rows)
    vectors = model.rows_of(cubes) if model is not None else None
    total: np.ndarray | None = None
    done = 0
    # A cluster has threads of its own; what is set here is for this process alone.
    with dask.config.set(num_workers=threads):
        for first, last in batches:
            wanted = [channel_moments(cubes.blocks[first:last])]
            if vectors is not None:
                wanted.append(vectors.blocks[first:last])
            # In one go, so that both are of the same reading.
            part, *batch = dask.compute(*wanted)
            total = part if total is None else merge_two(total, part)
            require_finite(total)
            if model is not None:
                model.add(batch.pop())
            done += sum(block.num_rows for block in rows.blocks[first:last])
            on_frames(done, rows.num_frames)
    assert total is not None, "there is a block"
    return total
