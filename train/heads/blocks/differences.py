"""Differences between frames as one vector a step: what `diffs=frames` and `diffs=cubes` add.

Both are absolute values. Signed ones cancel in a mean over time: what remains of a sum of
consecutive differences is the last frame minus the first.
"""

from typing import Literal

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from features_store.errors import UsageError
from train.data.batch import Batch, InputShape

Diffs = Literal["none", "frames", "cubes", "both"]


def diff_size(diffs: Diffs, shape: InputShape) -> int:
    """Return how long the vector of `diff_features` is.

    Raises:
        UsageError: frame differences are asked for but not read from the store.
    """
    if diffs == "none":
        return 0
    if diffs == "cubes":
        return shape.top[1]
    if diffs == "both":
        return diff_size("frames", shape) + diff_size("cubes", shape)
    if shape.diff_grid is None:
        raise UsageError(
            "option 'diffs' asks for frame differences, but none are read from the store; "
            "use diffs=cubes or diffs=none, or extract with frame differences"
        )
    return shape.diff_grid**2 * 3


def diff_features(batch: Batch, diffs: Diffs) -> Float[Tensor, "b t f"]:
    """Return |differences| per frame, zero at the first one; nothing (f = 0) for "none".

    "frames" is the stored frame difference, flattened; "cubes" the mean over cells of
    |cube_t − cube_{t−1}| of the top layer, "both" one behind the other.
    """
    if diffs == "both":
        return torch.cat([diff_features(batch, "frames"), diff_features(batch, "cubes")], dim=-1)
    if diffs == "cubes":
        # cubes  c0 c1    c2
        #  ->     0 c1-c0 c2-c1     same length, so one mask indexes both
        steps = reduce(batch.top.diff(dim=1).abs(), "b t h w d -> b t d", "mean")
        return F.pad(steps, (0, 0, 1, 0))
    if diffs == "frames":
        if batch.diffs is None:
            raise ValueError("diffs='frames' needs batch.diffs, got None")
        return rearrange(batch.diffs.abs(), "b t h w c -> b t (h w c)")
    return torch.empty(*batch.mask.shape, 0, dtype=batch.top.dtype, device=batch.top.device)
