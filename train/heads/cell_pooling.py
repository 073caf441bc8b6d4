"""Cells summed by their attention and classified: attention logits of their own, or non-local."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor, nn

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import AttentionMap, Head
from train.heads.blocks.cells import CellSets, Extent
from train.heads.blocks.masked import masked_mean, masked_softmax
from train.heads.blocks.standardise import PooledClassifier
from train.heads.map_meanings import MapMeaning, MapMeanings
from train.heads.options import Dropout, PositiveInt
from train.heads.registry import register_head


class CellPooling(Head):
    """The weighted sum of the cells of a frame, or of a clip, and a linear layer.

    Logits are per frame, or a single row per clip. The map "spatial" is the weights.
    """

    weight_decay: ClassVar[float] = 1e-2
    takes_attention: ClassVar[bool] = True
    map_meanings: ClassVar[MapMeanings] = {"spatial": MapMeaning("where it looks", "share")}
    extent: Extent
    classify: PooledClassifier

    @abstractmethod
    def weigh(
        self, cells: Float[Tensor, "sets n d"], valid: Bool[Tensor, "sets n"]
    ) -> Float[Tensor, "sets n"]:
        """Return how much of each cell is taken; zero where it is not valid."""

    def features(self, batch: Batch, taken: Float[Tensor, "b s d"]) -> Float[Tensor, "b s d"]:
        """Return what is classified, given the weighted sums."""
        return taken

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit mean and std of the mean cube, which is what uniform attention would take."""
        self.classify.fit(masked_mean(batch.frames, batch.mask) for batch in batches)

    def forward(self, batch: Batch, *, attention: AttentionMap | None = None) -> HeadOutput:
        """See `Head`."""
        sets = CellSets(batch.mask, self.grid_size, self.extent)
        cells = sets.group(batch.top)
        weights = self.weigh(cells, sets.valid) if attention is None else sets.from_map(attention)
        logits = self.classify(self.features(batch, sets.pool(cells, weights)))
        return HeadOutput(logits=logits, maps={"spatial": sets.to_map(weights)}, losses={})


@register_head("self-attention-pool")
class SelfAttentionPool(CellPooling):
    """x = Σ_i softmax_i(wᵀX_i) X_i over the cells of a frame, or of a clip ("spatio-temporal").

    Du et al. (2018) set their interaction-aware attention against this: here a cell's logit is that
    cell's alone, and nothing keeps several of them from saying the same. A bias would cancel in the
    softmax. The map "spatial" is the softmax.
    """

    source: ClassVar[str] = "Du et al. 2018, arXiv 1808.01106, place not at hand"

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        attention: Extent = "spatial",
        dropout: Dropout = 0.5,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        self.extent = attention
        self.attention_form = "frame" if attention == "spatial" else "clip"
        self.score = nn.Linear(self.dim, 1, bias=False)
        self.classify = PooledClassifier(self.dim, num_classes, dropout=dropout)

    def weigh(
        self, cells: Float[Tensor, "sets n d"], valid: Bool[Tensor, "sets n"]
    ) -> Float[Tensor, "sets n"]:
        """Return the softmax of each cell's logit."""
        return masked_softmax(self.score(cells).mT, valid).squeeze(1)


@register_head("non-local")
class NonLocal(CellPooling):
    """z_i = x_i + W_z Σ_j softmax_j((W_θ x_i)ᵀ W_φ x_j) W_g x_j, the mean of z, a linear layer.

    A non-local block before mean pooling, equations 4 and 6 of the paper, over all cells of the
    clip. What is classified is the mean of z, in which W_z and W_g are common factors: both are
    applied to the mean over i of Σ_j softmax_j(…) x_j, a single vector per clip. The map "spatial"
    is that mean of the softmax, how much all cells together take from each. Logits are (B, 1, C).
    """

    source: ClassVar[str] = "Wang, Girshick, Gupta, He 2018, arXiv 1711.07971, equations 4 and 6"

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        hidden: PositiveInt = 128,
        dropout: Dropout = 0.5,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        self.extent, self.attention_form = "spatio-temporal", "clip"
        self.query = nn.Linear(self.dim, hidden, bias=False)  # W_θ
        self.key = nn.Linear(self.dim, hidden, bias=False)  # W_φ
        self.value = nn.Linear(self.dim, hidden, bias=False)  # W_g
        self.output = nn.Linear(hidden, self.dim, bias=False)  # W_z
        self.classify = PooledClassifier(self.dim, num_classes, dropout=dropout)

    def weigh(
        self, cells: Float[Tensor, "sets n d"], valid: Bool[Tensor, "sets n"]
    ) -> Float[Tensor, "sets n"]:
        """Return the softmax over j, averaged over the valid cells i."""
        scores = einsum(self.query(cells), self.key(cells), "b i h, b j h -> b i j")
        weights = masked_softmax(scores, valid)
        is_asked = valid.to(weights.dtype)
        summed = einsum(is_asked, weights, "b i, b i j -> b j")
        return summed / is_asked.sum(1, keepdim=True).clamp(min=1)

    def features(self, batch: Batch, taken: Float[Tensor, "b s d"]) -> Float[Tensor, "b s d"]:
        """Return the mean of z."""
        added: Tensor = self.output(self.value(taken))
        return masked_mean(batch.frames, batch.mask).unsqueeze(1) + added
