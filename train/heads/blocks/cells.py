"""The cells that an attention chooses among: those of a frame, or those of all frames of a clip."""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from train.heads.blocks.masked import zero_masked

Extent = Literal["spatial", "spatio-temporal"]
PoolKind = Literal["average", "max"]
_AXES: dict[Extent, str] = {
    "spatial": "b t h w d -> (b t) (h w) d",
    "spatio-temporal": "b t h w d -> b (t h w) d",
}


@dataclass(frozen=True)
class CellSets:
    """The clips of a batch as sets of cells: B·T sets of K² ("spatial"), or B sets of T·K².

    A *step* is what a set becomes once it is pooled: a frame, or the whole clip.

    Attributes:
        mask: of the batch; its masked frames are zero in every set.
    """

    mask: Bool[Tensor, "b t"]
    grid_size: int
    extent: Extent

    @property
    def valid(self) -> Bool[Tensor, "sets n"]:
        """True at the cells of valid frames."""
        cells = repeat(self.mask, "b t -> b t h w 1", h=self.grid_size, w=self.grid_size)
        return rearrange(cells, _AXES[self.extent]).squeeze(-1)

    @property
    def step_mask(self) -> Bool[Tensor, "b steps"]:
        """True at the steps with a valid frame."""
        return self.mask if self.extent == "spatial" else self.mask.any(1, keepdim=True)

    def group(self, cubes: Float[Tensor, "b t k k d"]) -> Float[Tensor, "sets n d"]:
        """Return cubes as sets of cells."""
        return rearrange(zero_masked(cubes, self.mask), _AXES[self.extent])

    def pool(
        self, cells: Float[Tensor, "sets n d"], weights: Float[Tensor, "sets n"]
    ) -> Float[Tensor, "b steps d"]:
        """Return the weighted sum of each set's cells."""
        # As rows times cells: einsum would take cells times a column, ten times as slow on a CPU.
        pooled = torch.bmm(weights.unsqueeze(1), cells).squeeze(1)
        return rearrange(pooled, "(b steps) d -> b steps d", b=self.mask.shape[0])

    def from_map(self, attention: Float[Tensor, "b t k k"]) -> Float[Tensor, "sets n"]:
        """Return the weights of a map as those of each set's cells."""
        return self.group(attention.unsqueeze(-1)).squeeze(-1)

    def to_map(self, weights: Float[Tensor, "sets n"]) -> Float[Tensor, "b t k k"]:
        """Return the weights of all sets as one map."""
        return weights.reshape(*self.mask.shape, self.grid_size, self.grid_size)


def pool_to_grid(
    cubes: Float[Tensor, "b t k k d"], grid_size: int, *, sampling: PoolKind = "average"
) -> Float[Tensor, "b t grid grid d"]:
    """Return the cubes on another grid, with cells repeated where it is a finer one.

    A cell of a coarser one is the mean, or the maximum of each channel, of those that it covers.
    """
    if cubes.shape[2] == grid_size:
        return cubes
    # A view: torch takes it as channels-last pictures.
    pictures = rearrange(cubes, "b t h w d -> (b t) d h w")
    pool = F.adaptive_avg_pool2d if sampling == "average" else F.adaptive_max_pool2d
    pooled: Tensor = pool(pictures, grid_size)
    return rearrange(pooled, "(b t) d h w -> b t h w d", b=cubes.shape[0])
