"""Averages that padding cannot reach."""

from einops import reduce
from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean(values: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
    """Return the mean over valid frames; zero for a clip without any."""
    # Selecting and not multiplying: 0 * inf would be nan.
    summed = values.where(mask.unsqueeze(-1), 0.0).sum(1)
    return summed / mask.sum(1, keepdim=True).clamp(min=1).to(values.dtype)


def mean_cube(cubes: Float[Tensor, "b t k k d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
    """Return the mean over cells and valid frames."""
    return masked_mean(reduce(cubes, "b t h w d -> b t d", "mean"), mask)
