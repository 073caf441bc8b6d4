"""The M2A block on a stored earlier layer, and the layers after it trained together with it.

The paper trains a whole network with a block before `conv1` of every residual block, where only the
residual branch sees the gated input. Here there is one block, all before it is frozen, and what
stands after it sees the gated input whole: a ResNet's stage in its shortcut too, an Inception block
in all its branches (the paper has none). The numbers are not those of M2A.
"""

from collections.abc import Iterable
from copy import deepcopy
from typing import ClassVar

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import Head
from train.heads.blocks.classifier import PooledClassifier, average_consensus
from train.heads.blocks.m2a import LastMotion, M2ABlock, M2AOutput, Mechanism
from train.heads.blocks.masked import masked_mean
from train.heads.options import Dropout, PositiveInt
from train.heads.registry import register_head
from train.heads.temporal_shift import check_can_shift, temporal_shift


@register_head("m2a-tail")
class M2ATail(Head):
    """M2A block, the network's own last layers, mean over cells, dropout, linear, mean logits.

    `shift` puts a temporal shift between the block and the layers, as the official code has it.

    The layers start from the weights that made the cubes. They stay in evaluation mode, so that a
    batch norm keeps the statistics of the data the network was trained on: those of a batch would
    be of a few videos' frames, all alike, and of padding. Its scale and bias are trained.

    The maps "activation" (B, T, K, K) and, with attention, "frame_attention" (B, T, T) are those of
    `M2AOutput`.
    """

    source: ClassVar[str] = "Gebotys, Wong, Clausi 2021, arXiv 2111.09976, abstract"
    learning_rate: ClassVar[float] = 1e-4
    weight_decay: ClassVar[float] = 1e-2
    takes_tail: ClassVar[bool] = True

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        tail: nn.Module,
        mechanism: Mechanism = "motion+attention",
        last: LastMotion = "faithful",
        reduction: PositiveInt = 8,
        shift: bool = False,
        dropout: Dropout = 0.5,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        grid_size, dim = shape.top
        if shift:
            check_can_shift(dim)
        self.shift = shift
        self.block = M2ABlock(dim, reduction=reduction, mechanism=mechanism, last=last)
        # Cubes come with the channels last already.
        self.tail = deepcopy(tail).requires_grad_(True).to(memory_format=torch.channels_last)
        self.train()
        with torch.no_grad():
            num_features = self.tail(torch.zeros(1, dim, grid_size, grid_size)).shape[1]
        self.classify = PooledClassifier(num_features, num_classes, dropout=dropout)

    def train(self, mode: bool = True) -> "M2ATail":
        """Set the mode of all but the tail, which stays in evaluation mode."""
        super().train(mode)
        self.tail.eval()
        return self

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit mean and std of what block and tail, not yet trained, make of the training clips."""
        with torch.no_grad():
            self.classify.fit(
                masked_mean(self._features(batch, self.block(batch.top, batch.mask)), batch.mask)
                for batch in batches
            )

    def forward(self, batch: Batch) -> HeadOutput:
        """See `Head`."""
        block: M2AOutput = self.block(batch.top, batch.mask)
        logits = average_consensus(self.classify(self._features(batch, block)), batch.mask)
        maps = {"activation": block.activation}
        if block.frame_attention is not None:
            maps["frame_attention"] = block.frame_attention
        return HeadOutput(logits=logits, maps=maps, losses={})

    def _features(self, batch: Batch, block: M2AOutput) -> Float[Tensor, "b t f"]:
        """Return each frame's pooled last map; at masked frames it is what the tail makes of 0."""
        cubes = temporal_shift(block.cubes, batch.mask) if self.shift else block.cubes
        maps = self.tail(rearrange(cubes, "b t h w d -> (b t) d h w"))
        features: Tensor = reduce(maps, "(b t) f h w -> b t f", "mean", t=cubes.shape[1])
        return features
