"""The penalty by which attention comes to every cell in the course of a clip."""

from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor


def doubly_stochastic_penalty(
    weights: Float[Tensor, "b t k k"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Return Σ_i (1 − Σ_t l_{t,i})² per clip, over its valid frames (Sharma et al. 2015).

    It asks that every cell be looked at as much as every other in the course of the clip. It is
    zero only when the number of valid frames T equals the number of cells K²; otherwise its minimum
    is (K² − T)² / K², at uniform weights.
    """
    valid = rearrange(mask, "b t -> b t 1 1")
    looked_at = reduce(weights.where(valid, 0.0), "b t h w -> b h w", "sum")
    return reduce((1.0 - looked_at).square(), "b h w -> b", "sum")
