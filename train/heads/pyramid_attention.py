"""Interaction-aware pyramid attention on cached cubes (Du et al. 2018, arXiv 1808.01106).

In the paper the layer stands inside a network that is trained with it. Here the layers are cached,
and what follows it is the mean over its bases and a linear classifier.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import AttentionMap, Head
from train.heads.blocks.cells import CellSets, Extent, PoolKind, pool_to_grid
from train.heads.blocks.interaction import (
    CellAttention,
    Fusion,
    InteractionAttention,
    complementary_term,
    orthogonality_term,
    variance_term,
)
from train.heads.blocks.masked import masked_mean
from train.heads.blocks.standardise import PooledClassifier, Standardise
from train.heads.map_meanings import MapMeaning, MapMeanings
from train.heads.options import Dropout, NonNegativeFloat, PositiveInt
from train.heads.registry import register_head


@register_head("pyramid-attention")
class PyramidAttention(Head):
    """Bases that attend to the top layer's cells by the scores of all layers.

    Every layer of the store is a scale; one layer alone is a pyramid of one scale. Those with
    another grid come to the top's by `sampling`, the paper's ℛ: the mean or the maximum of cells.

    With `attention` "spatial" each frame is attended to by itself and has its own logits, with
    "spatio-temporal" all cells of the clip at once, which has a single row of logits. The latter
    does not know the order of frames.

    Scores are of standardised cells, by the mean and std of each layer's channels in the training
    set. W_j and b_j could take that up; but a softmax over cells as they are, whose norms differ
    from layer to layer, would start as the choice of one or two cells, and stay there.

    The map "bases" is A, (B, T, bases, K, K). Its rows have unit length and a sum between 1 and √n;
    hence the mean over bases is divided by √n, by which uniform attention gives the mean cube. That
    is the map "spatial", the weight with which each cell is classified; `attention=` in `forward`
    replaces it. The losses are the variance and orthogonality terms of equation 6 and the
    complementary l_attn, averaged over valid frames and clips; their weights are the options of
    those names. With `centre` the cells of the variance term, X of equation 6, are less their mean
    over the frame or clip.

    The paper has as many bases as cells. Its weights β, of the first two, and γ are not known. Here
    β is such that 49 bases part on planted clips (benchmarks/pyramid_weights.py): the mean of A Aᵀ
    off its diagonal is 0.60 and 0.54 at two rates, 0.95 and 0.92 without losses, at an accuracy of
    0.992 and 0.980 for 1.000 and 0.996. A larger one spreads them over all cells, which is mean
    pooling. The second term has m (m − 1) summands for m bases: fewer bases want a larger β.
    """

    source: ClassVar[str] = "Du et al. 2018, arXiv 1808.01106, figure 1 and equation 6"
    weight_decay: ClassVar[float] = 1e-2
    takes_attention: ClassVar[bool] = True
    map_meanings: ClassVar[MapMeanings] = {
        "spatial": MapMeaning("where it looks, all bases together", "share"),
        "bases": MapMeaning("where single bases look", "share", rows="basis"),
    }

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        attention: Extent = "spatial",
        bases: PositiveInt = 49,
        fusion: Fusion = "sum",
        sampling: PoolKind = "average",
        centre: bool = False,
        dropout: Dropout = 0.5,
        variance: NonNegativeFloat = 1e-4,
        orthogonality: NonNegativeFloat = 1e-4,
        complementary: NonNegativeFloat = 1e-3,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        self.weigh_losses(
            variance=variance, orthogonality=orthogonality, complementary=complementary
        )
        self.extent: Extent = attention
        self.attention_form = "frame" if attention == "spatial" else "clip"
        self.sampling, self.centre = sampling, centre
        dims = [dim for _, dim in shape.layers.values()]
        self.dims = dims
        self.standardise = Standardise(sum(dims))
        self.attend = InteractionAttention(dims, bases, fusion=fusion)
        self.classify = PooledClassifier(dims[-1], num_classes, dropout=dropout)

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit those of the cells that are scored, then of what is classified before training.

        The first frame of each clip speaks for its cells.
        """
        with torch.no_grad():
            self.standardise.fit(torch.cat(self._first_cells(batch), -1) for batch in batches)
            self.classify.fit(self._pooled_clips(batch) for batch in batches)

    def forward(self, batch: Batch, *, attention: AttentionMap | None = None) -> HeadOutput:
        """See `Head`."""
        sets, scales = self._sets(batch.cubes, batch.mask)
        attended = self._attend(scales, sets)
        weights = self._weights(attended, sets) if attention is None else sets.from_map(attention)
        per_frame = "(b t) m (h w) -> b t m h w"
        axes = per_frame if self.extent == "spatial" else "b m (t h w) -> b t m h w"
        B, K = len(batch.mask), self.grid_size
        bases = rearrange(attended.rows, axes, b=B, h=K, w=K)
        return HeadOutput(
            logits=self.classify(sets.pool(scales[-1], weights)),
            maps={"spatial": sets.to_map(weights), "bases": bases},
            losses=self._losses(attended, scales[-1], sets),
        )

    def _sets(
        self, cubes: Mapping[str, Tensor], mask: Bool[Tensor, "b t"]
    ) -> tuple[CellSets, list[Float[Tensor, "s n _"]]]:
        """Return the cells of every layer on the top's grid."""
        sets = CellSets(mask, self.grid_size, self.extent)
        on_grid = (
            pool_to_grid(layer, self.grid_size, sampling=self.sampling) for layer in cubes.values()
        )
        return sets, [sets.group(layer) for layer in on_grid]

    def _first_cells(self, batch: Batch) -> list[Float[Tensor, "n _"]]:
        first = {name: cubes[:, :1] for name, cubes in batch.cubes.items()}
        sets, scales = self._sets(first, batch.mask[:, :1])
        return [cells[sets.valid] for cells in scales]

    def _attend(self, scales: Sequence[Float[Tensor, "s n _"]], sets: CellSets) -> CellAttention:
        standard = self.standardise(torch.cat([*scales], -1)).split(self.dims, -1)
        attended: CellAttention = self.attend(standard, sets.valid)
        return attended

    def _weights(self, attended: CellAttention, sets: CellSets) -> Float[Tensor, "s n"]:
        """Return the mean over bases, divided by √n."""
        rows, num_cells = attended.rows, sets.valid.sum(1, keepdim=True).clamp(min=1)
        return rows.mean(1) / num_cells.to(rows.dtype).sqrt()

    def _pooled_clips(self, batch: Batch) -> Float[Tensor, "b d"]:
        """Return what is classified, as its mean over each clip."""
        sets, scales = self._sets(batch.cubes, batch.mask)
        weights = self._weights(self._attend(scales, sets), sets)
        return masked_mean(sets.pool(scales[-1], weights), sets.step_mask)

    def _losses(
        self, attended: CellAttention, top: Float[Tensor, "s n d"], sets: CellSets
    ) -> dict[str, Float[Tensor, ""]]:
        terms = {
            "variance": variance_term(
                attended.rows, top, about_mean_of=sets.valid if self.centre else None
            ),
            "orthogonality": orthogonality_term(attended.rows),
            "complementary": complementary_term(attended, sets.valid),
        }
        num_clips = sets.mask.shape[0]
        return {
            name: masked_mean(term.reshape(num_clips, -1, 1), sets.step_mask).mean()
            for name, term in terms.items()
        }
