"""The M2A block on the last cached cube and a classifier after it.

The paper puts a block before every residual block of a network that is trained with it. One block
on frozen cubes is not that, and its numbers are not those of M2A.
"""

from collections.abc import Iterable
from typing import ClassVar

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import Head
from train.heads.blocks.classifier import PooledClassifier, average_consensus
from train.heads.blocks.differences import Diffs, diff_features, diff_size
from train.heads.blocks.m2a import LastMotion, M2ABlock, M2AOutput, Mechanism
from train.heads.blocks.masked import masked_mean
from train.heads.options import Dropout, PositiveInt
from train.heads.registry import register_head
from train.heads.temporal_shift import check_can_shift, temporal_shift


@register_head("m2a-head")
class M2AHead(Head):
    """M2A block, mean over cells, dropout, linear layer, mean logits over the valid frames.

    `shift` puts a temporal shift before the block. The official code has it after the block, before
    a convolution; here a mean over frames would follow, which all but undoes it. `diffs` appends
    absolute differences to the pooled frame, as in the other heads; the block has its own.

    The maps "activation" (B, T, K, K) and, with attention, "frame_attention" (B, T, T) are those of
    `M2AOutput`.
    """

    source: ClassVar[str] = "Gebotys, Wong, Clausi 2021, arXiv 2111.09976, abstract"
    learning_rate: ClassVar[float] = 1e-3
    weight_decay: ClassVar[float] = 1e-2

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        mechanism: Mechanism = "motion+attention",
        last: LastMotion = "faithful",
        reduction: PositiveInt = 8,
        shift: bool = False,
        dropout: Dropout = 0.5,
        diffs: Diffs = "none",
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        _, dim = shape.top
        if shift:
            check_can_shift(dim)
        self.shift = shift
        self.diffs: Diffs = diffs
        self.block = M2ABlock(dim, reduction=reduction, mechanism=mechanism, last=last)
        self.classify = PooledClassifier(
            dim + diff_size(diffs, shape), num_classes, dropout=dropout
        )

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit mean and std of what the block, not yet trained, makes of the training clips."""
        with torch.no_grad():
            self.classify.fit(
                masked_mean(self._features(batch, self._gated(batch)), batch.mask)
                for batch in batches
            )

    def forward(self, batch: Batch) -> HeadOutput:
        """See `Head`."""
        block = self._gated(batch)
        logits = average_consensus(self.classify(self._features(batch, block)), batch.mask)
        maps = {"activation": block.activation}
        if block.frame_attention is not None:
            maps["frame_attention"] = block.frame_attention
        return HeadOutput(logits=logits, maps=maps, losses={})

    def _gated(self, batch: Batch) -> M2AOutput:
        cubes = temporal_shift(batch.top, batch.mask) if self.shift else batch.top
        output: M2AOutput = self.block(cubes, batch.mask)
        return output

    def _features(self, batch: Batch, block: M2AOutput) -> Float[Tensor, "b t f"]:
        frames = reduce(block.cubes, "b t h w d -> b t d", "mean")
        return torch.cat([frames, diff_features(batch, self.diffs)], dim=-1)
