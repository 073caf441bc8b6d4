"""Principal components of a store's cells, fitted batch by batch in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from features_store.errors import UsageError
from pipelines.statistics.arrays import StoreCubes

COPIES = 6  # of a batch in float64 that scikit-learn and LAPACK hold at once


@dataclass(frozen=True)
class Components:
    """Mean (D,), components (N, D) and the variance that each explains (N,), float64."""

    mean: np.ndarray
    components: np.ndarray
    variance: np.ndarray


def fit_components(
    cubes: StoreCubes, number: int, *, memory_bytes: int, scheduler: Any = None
) -> Components:
    """Fit `number` components to the cells of a store, in the order of its rows.

    Args:
        memory_bytes: that batches and their copies may take.
        scheduler: as `dask.compute` takes it.

    Raises:
        UsageError: there are fewer channels or cells, or the memory is too little for a batch.
    """
    from sklearn.decomposition import IncrementalPCA

    dim = int(cubes.array.shape[-1])
    num_cells = int(np.prod(cubes.array.shape[:-1]))
    if not 1 <= number <= min(dim, num_cells):
        raise UsageError(
            f"`pca` must be 1 to {min(dim, num_cells)}, the channels of {cubes.layer} or its cells,"
            f" got {number}"
        )
    batch = memory_bytes // (COPIES * dim * 8) - number
    if batch < max(number, 2):
        least = COPIES * dim * 8 * 2 * max(number, 2)
        raise UsageError(f"`memory` of {memory_bytes} bytes is too little; give {least} or more")
    pca = IncrementalPCA(n_components=number, copy=False)
    for cells in _batches(cubes, batch, number, scheduler):
        pca.partial_fit(cells)
    return Components(pca.mean_, pca.components_, pca.explained_variance_)


def _batches(cubes: StoreCubes, most: int, least: int, scheduler: Any) -> Iterator[np.ndarray]:
    """Yield cells (n, D) in float64; the last batch is larger rather than too small."""
    waiting: list[np.ndarray] = []
    for block in cubes.array.to_delayed().ravel():
        cells = block.compute(scheduler=scheduler).reshape(-1, cubes.array.shape[-1])
        for start in range(0, len(cells), most):
            waiting.append(cells[start : start + most])
            if sum(map(len, waiting)) >= most + least:
                rows = np.concatenate(waiting)
                yield rows[:most].astype(np.float64)
                waiting = [rows[most:]]
    yield np.concatenate(waiting).astype(np.float64)
