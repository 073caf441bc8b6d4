"""Interaction-aware attention over cells, and the three terms that shape it.

Du, Yuan, Li, Zhao, Li, Hu 2018, "Interaction-aware Spatio-Temporal Pyramid Attention Networks for
Action Classification" (ECCV 2018, arXiv 1808.01106). Each of d *bases* attends to the n cells of a
frame or a clip; a basis is a row of A. Shapes: s sets of cells, m bases, n cells.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from train.heads.blocks.masked import masked_mean, masked_softmax, zero_masked

# Of the first weights, on what torch draws: bases that start alike have gradients that are alike.
INITIAL_SPREAD = 4.0

Fusion = Literal["sum", "max", "product"]
_FUSE: dict[Fusion, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": torch.add,
    "max": torch.maximum,
    "product": torch.mul,
}


@dataclass(frozen=True)
class CellAttention:
    """Where the bases look.

    Attributes:
        weights: softmax of the fused scores.
        weights_by_scale: softmax of each scale's own scores.
    """

    weights: Float[Tensor, "s m n"]
    weights_by_scale: Sequence[Float[Tensor, "s m n"]]

    @property
    def rows(self) -> Float[Tensor, "s m n"]:
        """A of the paper: the weights with each basis scaled to unit length, not to unit sum."""
        return F.normalize(self.weights, dim=-1)


class InteractionAttention(nn.Module):
    """A = L2norm(softmax(F(Y_1, …, Y_N))) with Y_j = W_j X_jᵀ + b_j (figure 1 of the paper).

    b_j is the same for all cells. Where scores are only summed the softmax cancels it; there it is
    left out.
    """

    def __init__(self, dims: Sequence[int], num_bases: int, *, fusion: Fusion) -> None:
        super().__init__()
        self.fusion: Fusion = fusion
        has_bias = fusion != "sum" and len(dims) > 1
        self.score = nn.ModuleList(nn.Linear(dim, num_bases, bias=has_bias) for dim in dims)
        with torch.no_grad():
            for score in self.score:
                assert isinstance(score, nn.Linear)  # ModuleList forgets what it holds
                score.weight.mul_(INITIAL_SPREAD)

    def forward(
        self, scales: Sequence[Float[Tensor, "s n _"]], valid: Bool[Tensor, "s n"]
    ) -> CellAttention:
        """Return the attention of each set over its valid cells."""
        scores = [
            rearrange(score(cells), "s n m -> s m n")
            for score, cells in zip(self.score, scales, strict=True)
        ]
        fused = reduce(_FUSE[self.fusion], scores)
        return CellAttention(
            weights=masked_softmax(fused, valid),
            weights_by_scale=[masked_softmax(own, valid) for own in scores],
        )


def variance_term(
    rows: Float[Tensor, "s m n"],
    cells: Float[Tensor, "s n d"],
    *,
    about_mean_of: Bool[Tensor, "s n"] | None = None,
) -> Float[Tensor, " s"]:
    """Return −Σ_m ‖a_m X‖² of X at unit Frobenius norm: minus the share of energy in the bases.

    First term of equation 6. With X as it is the term outgrows the other, and the best that all
    bases can do is to agree on the leading eigenvector of XXᵀ.

    The paper's X is not centred: of features of a relu the leading eigenvector is then nearly the
    mean. With `about_mean_of`, the valid cells, X is the cells less their mean; zero if they are
    all alike.
    """
    smallest = cells.new_tensor(torch.finfo(cells.dtype).tiny)
    if about_mean_of is not None:
        # What rounding leaves of cells that are all alike is not to be blown up to unit norm.
        smallest = smallest + torch.finfo(cells.dtype).eps * cells.square().sum((1, 2))
        mean = masked_mean(cells, about_mean_of).unsqueeze(1)
        cells = zero_masked(cells - mean, about_mean_of)
    energy = cells.square().sum((1, 2))
    captured = einsum(rows, cells, "s m n, s n d -> s m d").square().sum((1, 2))
    return -captured / energy.clamp(min=smallest)


def orthogonality_term(rows: Float[Tensor, "s m n"]) -> Float[Tensor, " s"]:
    """Return Σ_{m≠l} (a_m · a_l)², the second term of equation 6."""
    overlaps = einsum(rows, rows, "s m n, s l n -> s m l").square()
    return overlaps.sum((1, 2)) - overlaps.diagonal(dim1=1, dim2=2).sum(1)


def complementary_term(attention: CellAttention, valid: Bool[Tensor, "s n"]) -> Float[Tensor, " s"]:
    """Return l_attn = √Σ_j Σ_m Σ_k (1 − δ²), δ between fused weights and those of scale j.

    It falls as the scales' own attention departs from the fused one, so that each adds something.
    δ is taken before rows are scaled to unit length.
    """
    alike = torch.stack(
        [
            (1 - (attention.weights - own).square()).where(valid.unsqueeze(1), 0.0).sum((1, 2))
            for own in attention.weights_by_scale
        ]
    ).sum(0)
    return alike.sqrt()
