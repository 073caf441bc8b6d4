"""Principal components of more rows than fit into memory, by scikit-learn's IncrementalPCA.

Batches are whole blocks, in the order of blocks. Between two batches the model keeps only some
components, and what a batch shows of the others is lost. So four times as many are kept as are
wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from features_store.errors import UsageError
from pipelines.statistics.memory import PcaOf

if TYPE_CHECKING:
    import dask.array as da

KEPT = 4  # times the components that are wanted


@dataclass(frozen=True)
class PcaBasis:
    """The components of most variance; ``(x - mean) @ components.T`` are a row's coordinates.

    Attributes:
        of: what a row is: a cell, or the mean of a frame's cells.
        components: (N, D), orthonormal rows, by falling variance.
        explained_variance: (N,), of the coordinates, divided by the number of rows less one.
        explained_share: of the variance of all channels that lies in the components.
        mean: (D,), of the rows.
        num_rows: that it was fitted on.
    """

    of: PcaOf
    components: np.ndarray
    explained_variance: np.ndarray
    explained_share: float
    mean: np.ndarray
    num_rows: int


def num_kept(num_components: int, *, dim: int, num_rows: int) -> int:
    """Return how many components the model keeps between two batches.

    Raises:
        UsageError: more are wanted than there are channels or rows.
    """
    if not 1 <= num_components <= min(dim, num_rows):
        raise UsageError(
            f"`pca` must be between 1 and {min(dim, num_rows)} ({dim} channels, {num_rows} rows), "
            f"got {num_components}"
        )
    return min(KEPT * num_components, dim, num_rows)


def cut_batches(block_rows: Sequence[int], batch_rows: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of consecutive blocks that have at most `batch_rows` rows, or are one.

    >>> list(cut_batches([3, 3, 3, 9], 6))
    [(0, 2), (2, 3), (3, 4)]
    """
    first, num_rows = 0, 0
    for block, rows in enumerate(block_rows):
        if block > first and num_rows + rows > batch_rows:
            yield first, block
            first, num_rows = block, 0
        num_rows += rows
    yield first, len(block_rows)


def frame_means(cubes: np.ndarray) -> np.ndarray:
    """Return the mean of each frame's cells: (n, D), float64, of cubes (n, K, K, D)."""
    means = np.empty((len(cubes), cubes.shape[-1]))
    for frame, mean in zip(cubes, means, strict=True):  # one by one: a frame stays in the cache
        frame.mean((0, 1), dtype=np.float64, out=mean)
    return means


class BatchedPca:
    """Fits components to cubes that come batch by batch.

    Args:
        num_rows: that all batches will have together.

    Raises:
        UsageError: more components are wanted than there are channels or rows.
    """

    def __init__(self, num_components: int, *, of: PcaOf, dim: int, num_rows: int) -> None:
        from sklearn.decomposition import IncrementalPCA

        kept = num_kept(num_components, dim=dim, num_rows=num_rows)
        self._model = IncrementalPCA(n_components=kept)
        self._num_components, self._of, self._dim = num_components, of, dim

    def rows_of(self, cubes: da.Array) -> da.Array:
        """Return what a batch is made from: cubes as they are, or the means (frames, D)."""
        if self._of == "cells":
            return cubes
        return cubes.map_blocks(frame_means, drop_axis=[1, 2], dtype=np.float64)

    def add(self, rows: np.ndarray) -> None:
        """Take a batch; of the first one there must be as many rows as are kept components."""
        batch = rows.reshape(-1, self._dim).astype(np.float64)
        self._model.partial_fit(batch, check_input=False)  # overwrites the batch

    def basis(self) -> PcaBasis:
        """Return the components of all batches."""
        model, num_rows = self._model, int(self._model.n_samples_seen_)
        variance = model.explained_variance_[: self._num_components]
        # Components have the variance of the rows less one, `var_` that of the rows.
        whole = float(model.var_.sum()) * num_rows / max(num_rows - 1, 1)
        return PcaBasis(
            of=self._of,
            components=np.ascontiguousarray(model.components_[: self._num_components]),
            explained_variance=variance.copy(),
            explained_share=float(variance.sum()) / whole if whole else 1.0,
            mean=np.array(model.mean_),
            num_rows=num_rows,
        )
