"""3×3 convolution, on a CPU by Winograd's minimal filtering: a third of the multiplications.

Lavin and Gray 2016, "Fast algorithms for convolutional neural networks" (arXiv 1509.09308), F(4×4,
3×3): a map is cut into tiles of 4×4 outputs, each from 6×6 inputs, which 36 products per pair of
channels replace for 144. Tiling and transforms are linear in the map, so that here they are two
constant matrices, and all of it is matrix products.
"""

from collections.abc import Callable
from functools import cache, partial

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

TILE, POINTS = 4, 6
WIDE = 512  # channels from which it is faster; `benchmarks/conv3x3.py`
# Of one axis, points 0, ±1, ±2 and ∞.
INPUT_TRANSFORM = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
WEIGHT_TRANSFORM = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT_TRANSFORM = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


class Conv3x3(nn.Conv2d):
    """3×3 convolution with a border of zeros, K×K to K×K; parameters as those of `nn.Conv2d`.

    Many channels are convolved by Winograd's filtering on a CPU: in float32 it differs from torch's
    by about 1e-5 of the largest value. Few channels, a GPU, and bfloat16, whose 8 bits the
    transforms would use up, get torch's own.
    """

    def __init__(self, dim_in: int, dim_out: int, *, bias: bool = True) -> None:
        super().__init__(dim_in, dim_out, 3, padding=1, bias=bias)

    def forward(self, input: Float[Tensor, "n d k k"]) -> Float[Tensor, "n e k k"]:
        """Return the map convolved."""
        return self.prepared()(input)

    def prepared(self) -> Callable[[Float[Tensor, "n d k k"]], Float[Tensor, "n e k k"]]:
        """Return the convolution for several maps: what takes the weights alone is done once."""
        weight = self.weight
        is_exact = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)
        if weight.shape[1] < WIDE or not is_exact:
            return super().forward
        return partial(winograd, weights=weight_points(weight), bias=self.bias)


def weight_points(weight: Float[Tensor, "e d 3 3"]) -> Float[Tensor, "f d e"]:
    """Return the weights at the 36 points."""
    # The copy is for the products' sake, here and backwards: BLAS is slow on the other order.
    taps = rearrange(weight, "e d i j -> (i j) (d e)").contiguous()
    points = _weight_transform(weight.dtype) @ taps
    return rearrange(points, "f (d e) -> f d e", d=weight.shape[1])


def winograd(
    maps: Float[Tensor, "n d k k"], weights: Float[Tensor, "f d e"], bias: Tensor | None
) -> Float[Tensor, "n e k k"]:
    """Return the convolution by `weight_points`, strided as channels last."""
    num, dim, grid_size, _ = maps.shape
    to_points, from_points = _transforms(grid_size, maps.dtype)
    cells = rearrange(maps, "n d h w -> (h w) (n d)")
    points = (to_points @ cells).reshape(POINTS**2, -1, dim)  # (36, tiles · n, D)
    cells = from_points @ (points @ weights).reshape(from_points.shape[1], -1)
    convolved = rearrange(cells, "(h w) (n e) -> n e h w", h=grid_size, n=num)
    return convolved if bias is None else convolved + bias[:, None, None]


@cache
@torch.inference_mode(False)  # they are kept, and training may follow prediction
def _weight_transform(dtype: torch.dtype) -> Tensor:
    """Return the matrix weights → points."""
    one_axis = torch.tensor(WEIGHT_TRANSFORM, dtype=torch.float64)
    both = einsum(one_axis, one_axis, "i a, j b -> i j a b")
    return rearrange(both, "i j a b -> (i j) (a b)").to(dtype)


@cache
@torch.inference_mode(False)
def _transforms(grid_size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the matrices cells → points of all tiles, points → cells.

    Points of tiles are ordered (i, j, tile row, tile column), so that those of one (i, j) are one
    block of rows.
    """
    num_tiles = -(-grid_size // TILE)
    # One axis. Tile t reads cells 4t − 1 … 4t + 4 and writes cells 4t … 4t + 3.
    reads = torch.zeros(POINTS, num_tiles, grid_size, dtype=torch.float64)
    writes = torch.zeros(grid_size, POINTS, num_tiles, dtype=torch.float64)
    inputs, outputs = torch.tensor(INPUT_TRANSFORM), torch.tensor(OUTPUT_TRANSFORM)
    for tile in range(num_tiles):
        for i in range(POINTS):
            if 0 <= (cell := tile * TILE + i - 1) < grid_size:
                reads[:, tile, cell] += inputs[:, i]
        for i in range(TILE):
            if (cell := tile * TILE + i) < grid_size:
                writes[cell, :, tile] = outputs[i].double()
    to_points = einsum(reads, reads, "i t h, j s w -> i j t s h w")
    from_points = einsum(writes, writes, "h i t, w j s -> h w i j t s")
    return (
        rearrange(to_points, "i j t s h w -> (i j t s) (h w)").to(dtype),
        rearrange(from_points, "h w i j t s -> (h w) (i j t s)").to(dtype),
    )
