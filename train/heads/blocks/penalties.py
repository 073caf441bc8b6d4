"""Penalties of attention, unweighted, per clip: how it is spread over cells and frames.

Each is of the valid frames of a clip; masked frames have no part in it. The doubly stochastic one
is that of Sharma et al. (2015, arXiv 1511.04119), the others are regularisers of the saliency head
(Meng et al. 2019, arXiv 1810.04511).
"""

from einops import reduce
from jaxtyping import Bool, Float
from torch import Tensor

from train.heads.blocks.masked import zero_masked


def doubly_stochastic_penalty(
    weights: Float[Tensor, "b t k k"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Return Σ_i (1 − Σ_t l_{t,i})² per clip, over its valid frames (Sharma et al. 2015).

    It asks that every cell be looked at as much as every other in the course of the clip. It is
    zero only when the number of valid frames T equals the number of cells K²; otherwise its minimum
    is (K² − T)² / K², at uniform weights.
    """
    looked_at = reduce(zero_masked(weights, mask), "b t h w -> b h w", "sum")
    return reduce((1.0 - looked_at).square(), "b h w -> b", "sum")


def total_variation_penalty(
    saliency: Float[Tensor, "b t k k"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Return Σ_t of the absolute differences between neighbouring cells, across and down."""
    valid = zero_masked(saliency, mask)
    across, down = valid.diff(dim=3).abs(), valid.diff(dim=2).abs()
    return across.sum((1, 2, 3)) + down.sum((1, 2, 3))


def contrast_penalty(
    saliency: Float[Tensor, "b t k k"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Return Σ of −M/2 where M > 1/2 and of +M/2 where M < 1/2.

    It pushes values away from 1/2. Its minimum, though, is at a mask of ones, not at 0 and 1 alike.
    """
    per_cell = -0.5 * saliency * (saliency - 0.5).sign()
    return reduce(zero_masked(per_cell, mask), "b t h w -> b", "sum")


def size_penalty(
    saliency: Float[Tensor, "b t k k"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Return Σ M, the L1 norm of a mask, as in the authors' script of HMDB51."""
    return reduce(zero_masked(saliency, mask), "b t h w -> b", "sum")


def unimodality_penalty(
    weights: Float[Tensor, "b t"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Return Σ_t max(0, w_{t−1} w_{t+1} − w_t²): zero for log-concave weights."""
    return _violations(weights, mask).sum(1)


def root_mean_unimodality_penalty(
    weights: Float[Tensor, "b t"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    """Return the mean over clips and frames of the roots of these terms, as the released code does.

    The gradient of a term grows without bound as it goes to zero; at zero it is zero.
    """
    terms = _violations(weights, mask)
    is_violated = terms > 0
    # The root of 1, and not of 0, where nothing is violated: 0 * inf would be nan in backward.
    roots = terms.where(is_violated, 1.0).sqrt().where(is_violated, 0.0)
    return roots.sum() / mask[:, 2:].sum().clamp(min=1)


def _violations(
    weights: Float[Tensor, "b t"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, "b inner"]:
    # w0 w1 w2 w3  ->  w0 w2 - w1²,  w1 w3 - w2²: valid where the last of the three is
    terms = weights[:, :-2] * weights[:, 2:] - weights[:, 1:-1].square()
    return zero_masked(terms.clamp(min=0), mask[:, 2:])
