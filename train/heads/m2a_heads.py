"""The M2A block on cached cubes: a classifier after it, or the layers that the network has there.

The paper trains a whole network with a block before `conv1` of every residual block, where only the
residual branch sees the gated input. Here there is one block, and all before it is frozen. The
numbers are not those of M2A.
"""

from copy import deepcopy
from typing import ClassVar

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from train.data.batch import Batch, InputShape
from train.heads.blocks.m2a import LastMotion, M2ABlock, M2AOutput, Mechanism, ScoreScale
from train.heads.blocks.masked import zero_masked
from train.heads.blocks.standardise import PooledClassifier
from train.heads.consensus import ConsensusHead
from train.heads.map_meanings import M2A_MAPS, MapMeanings
from train.heads.options import Dropout, PositiveInt
from train.heads.registry import register_head
from train.heads.temporal_shift import check_can_shift, temporal_shift


@register_head("m2a-head")
class M2AHead(ConsensusHead):
    """M2A block, mean over cells, dropout, linear layer, mean logits over the valid frames.

    `shift` puts a temporal shift before the block. The official code has it after the block, before
    a convolution; here a mean over frames would follow, which all but undoes it. The
    block has motion of its own, beside what `motion` gives every head.

    The maps "activation" (B, T, K, K) and, with attention, "frame_attention" (B, T, T) are those of
    `M2AOutput`.
    """

    source: ClassVar[str] = "Gebotys, Wong, Clausi 2021, arXiv 2111.09976, abstract"
    weight_decay: ClassVar[float] = 1e-2
    map_meanings: ClassVar[MapMeanings] = M2A_MAPS

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        mechanism: Mechanism = "motion+attention",
        last: LastMotion = "faithful",
        scale: ScoreScale = "root",
        reduction: PositiveInt = 8,
        shift: bool = False,
        dropout: Dropout = 0.5,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        if shift:
            check_can_shift(self.dim)
        self.shift = shift
        self.block = M2ABlock(
            self.dim, reduction=reduction, mechanism=mechanism, last=last, scale=scale
        )
        self.classify = PooledClassifier(self.dim, num_classes, dropout=dropout)

    def features(self, batch: Batch) -> tuple[Float[Tensor, "b t f"], dict[str, Tensor]]:
        """Return the gated frames, averaged over cells."""
        cubes = temporal_shift(batch.top, batch.mask) if self.shift else batch.top
        cubes = zero_masked(cubes, batch.mask)
        gate = self.block.gate(cubes, batch.mask)
        return self.block.gated_frames(cubes, gate.inner), gate.maps


@register_head("m2a-tail")
class M2ATail(ConsensusHead):
    """M2A block, the network's own last layers, mean over cells, dropout, linear, mean logits.

    The block is on a stored earlier layer, and the layers after it are trained together with it.
    What stands after the block sees the gated input whole: a ResNet's stage in its shortcut too, an
    Inception block in all its branches (the paper has none). `shift` puts a temporal shift between
    the block and the layers, as the official code has it.

    The layers start from the weights that made the cubes. They stay in evaluation mode, so that a
    batch norm keeps the statistics of the data the network was trained on: those of a batch would
    be of a few videos' frames, all alike, and of padding. Its scale and bias are trained.

    The maps "activation" (B, T, K, K) and, with attention, "frame_attention" (B, T, T) are those of
    `M2AOutput`.
    """

    source: ClassVar[str] = "Gebotys, Wong, Clausi 2021, arXiv 2111.09976, abstract"
    learning_rate: ClassVar[float] = 1e-4
    weight_decay: ClassVar[float] = 1e-2
    map_meanings: ClassVar[MapMeanings] = M2A_MAPS
    takes_tail: ClassVar[bool] = True

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        tail: nn.Module,
        mechanism: Mechanism = "motion+attention",
        last: LastMotion = "faithful",
        scale: ScoreScale = "root",
        reduction: PositiveInt = 8,
        shift: bool = False,
        dropout: Dropout = 0.5,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        if shift:
            check_can_shift(self.dim)
        self.shift = shift
        self.block = M2ABlock(
            self.dim, reduction=reduction, mechanism=mechanism, last=last, scale=scale
        )
        # Cubes come with the channels last already.
        self.tail = deepcopy(tail).requires_grad_(True).to(memory_format=torch.channels_last)
        self.train()
        with torch.no_grad():
            zeros = torch.zeros(1, self.dim, self.grid_size, self.grid_size)
            num_features = self.tail(zeros).shape[1]
        self.classify = PooledClassifier(num_features, num_classes, dropout=dropout)

    def train(self, mode: bool = True) -> "M2ATail":
        """Set the mode of all but the tail, which stays in evaluation mode."""
        super().train(mode)
        self.tail.eval()
        return self

    def features(self, batch: Batch) -> tuple[Float[Tensor, "b t f"], dict[str, Tensor]]:
        """Return each frame's pooled last map; at masked frames it is what the tail makes of 0."""
        block: M2AOutput = self.block(batch.top, batch.mask)
        cubes = temporal_shift(block.cubes, batch.mask) if self.shift else block.cubes
        pictures = self.tail(rearrange(cubes, "b t h w d -> (b t) d h w"))
        frames = reduce(pictures, "(b t) f h w -> b t f", "mean", t=cubes.shape[1])
        return frames, block.maps
