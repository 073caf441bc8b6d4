"""Mean and variance of every channel in one pass: of a block, and of blocks put together.

Blocks are centred on their own means and merged pairwise or many at once (Chan, Golub and LeVeque
1983), so that a large mean costs no digits of the variance. All of it is float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features_store.errors import ContractError

if TYPE_CHECKING:
    import dask.array as da

# Of a channel: values seen, their mean, and the sum of squared distances to it.
MOMENTS = np.dtype([("count", np.int64), ("mean", np.float64), ("m2", np.float64)])
SLAB_VALUES = 2**18  # converted to float64 at a time: a slab stays in the cache
MERGED_AT_ONCE = 16  # blocks, in each node of the tree


def channel_moments(cubes: da.Array) -> da.Array:
    """Return `MOMENTS` (D,) of cubes (frames, K, K, D), lazily, merged as a tree."""
    import dask.array as da

    return da.reduction(
        cubes,
        chunk=block_moments,
        combine=merge_moments,
        aggregate=merge_moments,
        axis=(0, 1, 2),
        dtype=MOMENTS,
        meta=np.empty((0,), MOMENTS),
        split_every={0: MERGED_AT_ONCE, 1: 1, 2: 1},
    )


def block_moments(cubes: np.ndarray, axis: Any = None, keepdims: bool = True) -> np.ndarray:
    """Return `MOMENTS` (1, 1, 1, D) of cubes (n, K, K, D).

    `axis` and `keepdims` are what dask passes to a reduction: all but channels, and True.
    """
    dim = cubes.shape[-1]
    cells = cubes.reshape(-1, dim)
    slab_cells = max(1, SLAB_VALUES // dim)
    starts = range(0, len(cells), slab_cells)
    slabs = np.zeros((len(starts), 1, 1, dim), MOMENTS)
    # Values that are not finite come out as means that are not; who asks for them looks.
    with np.errstate(invalid="ignore", over="ignore"):
        for slab, start in zip(slabs[:, 0, 0], starts, strict=True):
            values = cells[start : start + slab_cells].astype(np.float64)
            mean = values.mean(0)
            values -= mean
            slab["count"], slab["mean"] = len(values), mean
            slab["m2"] = np.einsum("nd,nd->d", values, values)
    return merge_moments(slabs)


def merge_moments(parts: np.ndarray, axis: Any = None, keepdims: bool = True) -> np.ndarray:
    """Return `MOMENTS` of all parts (n, 1, 1, D) together: (1, 1, 1, D), or (D,) at the root."""
    count = parts["count"].sum(0, keepdims=True)
    share = parts["count"] / np.maximum(count, 1)
    # Means are merged as distances to one of them, and so keep the digits that they share.
    seen = np.argmax(parts["count"] > 0, axis=0)[None]
    origin = np.take_along_axis(parts["mean"], seen, axis=0)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = origin + (share * (parts["mean"] - origin)).sum(0, keepdims=True)
        between = (parts["count"] * (parts["mean"] - mean) ** 2).sum(0, keepdims=True)
        m2 = parts["m2"].sum(0, keepdims=True) + between
    merged = np.empty(count.shape, MOMENTS)
    merged["count"], merged["mean"], merged["m2"] = count, mean, m2
    return merged if keepdims else merged[0, 0, 0]


def variance_of(moments: np.ndarray) -> np.ndarray:
    """Return the variance of `MOMENTS`: of the values themselves, divided by their number."""
    return np.asarray(moments["m2"] / np.maximum(moments["count"], 1))


def merge_two(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return `MOMENTS` (D,) of two of them together."""
    return merge_moments(np.stack([one, other])[:, None, None], keepdims=False)


def require_finite(moments: np.ndarray) -> None:
    """Raise `ContractError` where a channel has a value that is not finite."""
    wrong = np.flatnonzero(~np.isfinite(moments["m2"]))
    if len(wrong):
        raise ContractError(
            f"{len(wrong)} channels hold values that are infinite or no numbers, the first is "
            f"channel {wrong[0]}; 'cubereel store verify --full' tells damage from features that "
            "were made so"
        )
