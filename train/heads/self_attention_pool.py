"""Pooling by one attention logit per cell: what interaction-aware attention is compared with."""

from collections.abc import Iterable
from typing import ClassVar

from torch import nn

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import AttentionMap, Head
from train.heads.blocks.cells import CellSets, Extent
from train.heads.blocks.classifier import PooledClassifier
from train.heads.blocks.masked import masked_softmax, mean_cube
from train.heads.options import Dropout
from train.heads.registry import register_head


@register_head("self-attention-pool")
class SelfAttentionPool(Head):
    """x = Σ_i softmax_i(wᵀX_i) X_i over the cells of a frame, or of a clip ("spatio-temporal").

    Du et al. (2018) set their attention against this: here a cell's logit is that cell's alone, and
    nothing keeps several of them from saying the same. A bias would cancel in the softmax. Logits
    are per frame, or a single row per clip. The map "spatial" is the softmax.
    """

    source: ClassVar[str] = "Du et al. 2018, arXiv 1808.01106, place not at hand"
    learning_rate: ClassVar[float] = 1e-3
    weight_decay: ClassVar[float] = 1e-2
    takes_attention: ClassVar[bool] = True

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        attention: Extent = "spatial",
        dropout: Dropout = 0.5,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        _, dim = shape.top
        self.extent: Extent = attention
        self.attention_form = "frame" if attention == "spatial" else "clip"
        self.score = nn.Linear(dim, 1, bias=False)
        self.classify = PooledClassifier(dim, num_classes, dropout=dropout)

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit mean and std of the mean cube, which is what uniform attention would classify."""
        self.classify.fit(mean_cube(batch.top, batch.mask) for batch in batches)

    def forward(self, batch: Batch, *, attention: AttentionMap | None = None) -> HeadOutput:
        """See `Head`."""
        sets = CellSets(batch.mask, self.shape.top[0], self.extent)
        cells = sets.group(batch.top)
        if attention is None:
            scores = self.score(cells).mT
            weights = masked_softmax(scores, sets.valid).squeeze(1)
        else:
            weights = sets.from_map(attention)
        logits = self.classify(sets.pool(cells, weights))
        return HeadOutput(logits=logits, maps={"spatial": sets.to_map(weights)}, losses={})
