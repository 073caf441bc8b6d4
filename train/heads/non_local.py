"""A non-local block (Wang, Girshick, Gupta, He 2018, arXiv 1711.07971) before mean pooling."""

from collections.abc import Iterable
from typing import ClassVar

from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor, nn

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import AttentionForm, AttentionMap, Head
from train.heads.blocks.cells import CellSets
from train.heads.blocks.classifier import PooledClassifier
from train.heads.blocks.masked import masked_softmax, mean_cube
from train.heads.options import Dropout, PositiveInt
from train.heads.registry import register_head


@register_head("non-local")
class NonLocal(Head):
    """z_i = x_i + W_z Σ_j softmax_j((W_θ x_i)ᵀ W_φ x_j) W_g x_j, the mean of z, a linear layer.

    Equations 4 and 6 of the paper, over all cells of the clip. What is classified is the mean of
    z, in which W_z and W_g are common factors: both are applied to the mean over i of
    Σ_j softmax_j(…) x_j, a single vector per clip. The map "spatial" is that mean of the softmax,
    how much all cells together take from each; `attention=` replaces it. Logits are (B, 1, C).
    """

    source: ClassVar[str] = "Wang, Girshick, Gupta, He 2018, arXiv 1711.07971, equations 4 and 6"
    learning_rate: ClassVar[float] = 1e-3
    weight_decay: ClassVar[float] = 1e-2
    takes_attention: ClassVar[bool] = True
    attention_form: AttentionForm = "clip"

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        hidden: PositiveInt = 128,
        dropout: Dropout = 0.5,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        _, dim = shape.top
        self.query = nn.Linear(dim, hidden, bias=False)  # W_θ
        self.key = nn.Linear(dim, hidden, bias=False)  # W_φ
        self.value = nn.Linear(dim, hidden, bias=False)  # W_g
        self.output = nn.Linear(hidden, dim, bias=False)  # W_z
        self.classify = PooledClassifier(dim, num_classes, dropout=dropout)

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit mean and std of the mean cube, to which the block adds."""
        self.classify.fit(mean_cube(batch.top, batch.mask) for batch in batches)

    def forward(self, batch: Batch, *, attention: AttentionMap | None = None) -> HeadOutput:
        """See `Head`."""
        sets = CellSets(batch.mask, self.shape.top[0], "spatio-temporal")
        cells = sets.group(batch.top)
        if attention is None:
            weights = self._mean_weights(cells, sets.valid)
        else:
            weights = sets.from_map(attention)
        taken = self.output(self.value(sets.pool(cells, weights)))
        logits = self.classify(mean_cube(batch.top, batch.mask).unsqueeze(1) + taken)
        return HeadOutput(logits=logits, maps={"spatial": sets.to_map(weights)}, losses={})

    def _mean_weights(
        self, cells: Float[Tensor, "b n d"], valid: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n"]:
        """Return the softmax over j, averaged over the valid cells i."""
        scores = einsum(self.query(cells), self.key(cells), "b i h, b j h -> b i j")
        weights = masked_softmax(scores, valid)
        is_asked = valid.to(weights.dtype)
        summed = einsum(is_asked, weights, "b i, b i j -> b j")
        return summed / is_asked.sum(1, keepdim=True).clamp(min=1)
