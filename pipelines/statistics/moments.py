"""Mean and variance of each channel, over frames and cells, in one pass and in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.statistics.arrays import StoreCubes

FAN_IN = 16  # results that one task merges


@dataclass(frozen=True)
class Moments:
    """Of so many cells: the mean (D,) and the sum of squared distances from it (D,), float64."""

    count: int
    mean: np.ndarray
    squares: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """Of the cells themselves, not of a population that they are drawn from."""
        return self.squares / self.count


def moments_of(cubes: np.ndarray) -> Moments:
    """Return the moments of cubes (n, K, K, D)."""
    cells = cubes.reshape(-1, cubes.shape[-1]).astype(np.float64)
    mean = cells.mean(0)
    cells -= mean
    return Moments(len(cells), mean, np.einsum("nd,nd->d", cells, cells))


def merged(parts: Sequence[Moments]) -> Moments:
    """Return the moments of all cells together (Chan, Golub and LeVeque 1979, eq. 1.5)."""
    total = parts[0]
    for part in parts[1:]:
        count = total.count + part.count
        delta = part.mean - total.mean
        mean = total.mean + delta * (part.count / count)
        squares = total.squares + part.squares + delta**2 * (total.count * part.count / count)
        total = Moments(count, mean, squares)
    return total


def channel_moments(cubes: StoreCubes, *, scheduler: Any = None) -> Moments:
    """Return mean and variance of each channel of a store's cubes.

    Args:
        scheduler: as `dask.compute` takes it: ``"threads"``, ``"synchronous"`` or a client; by
            default threads, or the client that is set.
    """
    import dask

    level = [dask.delayed(moments_of)(block) for block in cubes.array.to_delayed().ravel()]
    merge = dask.delayed(merged)
    while len(level) > 1:
        level = [merge(level[i : i + FAN_IN]) for i in range(0, len(level), FAN_IN)]
    (result,) = dask.compute(level[0], scheduler=scheduler)
    return result  # type: ignore[no-any-return]
