"""Temporal shift (Lin, Gan, Han 2019, arXiv 1811.08383) and a small head on it: a yardstick."""

from typing import ClassVar

import torch
from einops import reduce
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from features_store.errors import UsageError
from train.data.batch import Batch, InputShape
from train.heads.blocks.masked import zero_masked
from train.heads.blocks.standardise import PooledClassifier
from train.heads.consensus import ConsensusHead
from train.heads.options import Dropout, PositiveInt
from train.heads.registry import register_head

FOLD_DIV = 8


def temporal_shift(
    cubes: Float[Tensor, "b t k k d"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, "b t k k d"]:
    """Return cubes whose first D/8 channels are the next frame's and the next D/8 the last one's.

    Zeros come in at both ends of a clip; masked frames are zero before and after.
    """
    fold = cubes.shape[-1] // FOLD_DIV
    cubes = zero_masked(cubes, mask)
    # frames     x0 x1 x2
    # from_next  x1 x2 0
    # from_last  0  x0 x1
    from_next = F.pad(cubes[:, 1:, ..., :fold], (0, 0, 0, 0, 0, 0, 0, 1))
    from_last = F.pad(cubes[:, :-1, ..., fold : 2 * fold], (0, 0, 0, 0, 0, 0, 1, 0))
    return torch.cat([from_next, zero_masked(from_last, mask), cubes[..., 2 * fold :]], dim=-1)


def mix_shifted(
    cubes: Float[Tensor, "b t k k d"], mask: Bool[Tensor, "b t"], mix: nn.Linear
) -> Float[Tensor, "b t k k n"]:
    """Return `mix` of `temporal_shift`, without a copy of the cubes: what is mixed is shifted.

    Args:
        cubes: zero at masked frames.
    """
    fold = cubes.shape[-1] // FOLD_DIV
    of_next, of_last, own = mix.weight.tensor_split([fold, 2 * fold], dim=1)
    next_mixed = F.linear(cubes[:, 1:, ..., :fold], of_next)
    last_mixed = F.linear(cubes[:, :-1, ..., fold : 2 * fold], of_last)
    mixed = F.linear(cubes[..., 2 * fold :], own, mix.bias)
    mixed = mixed + F.pad(next_mixed, (0, 0, 0, 0, 0, 0, 0, 1))
    return mixed + zero_masked(F.pad(last_mixed, (0, 0, 0, 0, 0, 0, 1, 0)), mask)


def check_can_shift(dim: int) -> None:
    """Raise `UsageError` when there are too few channels to shift an eighth of them."""
    if dim < FOLD_DIV:
        raise UsageError(
            f"the temporal shift moves an eighth of the channels, but the top layer has {dim}; "
            f"choose a layer with at least {FOLD_DIV}"
        )


@register_head("temporal-shift")
class TemporalShiftHead(ConsensusHead):
    """Shift, 1×1 convolution, ReLU, mean over cells, linear layer, mean logits over valid frames.

    In the paper a shift stands in each residual block of a network that is trained with it; this is
    the one block that frozen cubes leave room for, so its numbers are not TSM's.
    """

    source: ClassVar[str] = "Lin, Gan, Han 2019, arXiv 1811.08383, section 3"
    weight_decay: ClassVar[float] = 1e-2

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        hidden: PositiveInt = 128,
        dropout: Dropout = 0.5,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        check_can_shift(self.dim)
        self.mix = nn.Linear(self.dim, hidden)
        self.classify = PooledClassifier(hidden, num_classes, dropout=dropout)

    def features(self, batch: Batch) -> tuple[Float[Tensor, "b t n"], dict[str, Tensor]]:
        """Return the mixed frames, averaged over cells."""
        mixed = mix_shifted(zero_masked(batch.top, batch.mask), batch.mask, self.mix).relu()
        return reduce(mixed, "b t h w n -> b t n", "mean"), {}
