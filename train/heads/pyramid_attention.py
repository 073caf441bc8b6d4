"""Interaction-aware pyramid attention on cached cubes (Du et al. 2018, arXiv 1808.01106).

In the paper the layer stands inside a network that is trained with it. Here the layers are cached,
and what follows it is the mean over its bases and a linear classifier.
"""

from collections.abc import Iterable
from typing import ClassVar

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from train.batch import Batch, HeadOutput, InputShape
from train.heads.base import Head
from train.heads.cells import CellSets, Extent, pool_to_grid
from train.heads.classifier import PooledClassifier
from train.heads.interaction import (
    CellAttention,
    Fusion,
    InteractionAttention,
    complementary_term,
    orthogonality_term,
    variance_term,
)
from train.heads.masked import masked_mean, mean_cube
from train.heads.options import check_option
from train.heads.registry import register_head


@register_head("pyramid-attention")
class PyramidAttention(Head):
    """Bases that attend to the top layer's cells by the scores of all layers.

    Every layer of the store is a scale; those with another grid are averaged to the top's. One
    layer alone is a pyramid of one scale.

    With `attention` "spatial" each frame is attended to by itself and has its own logits, with
    "spatio-temporal" all cells of the clip at once, which has a single row of logits. The latter
    does not know the order of frames.

    The map "bases" is A, (B, T, bases, K, K). Its rows have unit length and a sum between 1 and √n;
    hence the mean over bases is divided by √n, by which uniform attention gives the mean cube. That
    is the map "spatial", the weight with which each cell is classified; `attention=` in `forward`
    replaces it. The losses are the variance and orthogonality terms of equation 6 and the
    complementary l_attn, averaged over valid frames and clips; their weights (β and γ of the paper,
    which are not known) are the options of those names. The paper has as many bases as cells.
    """

    learning_rate: ClassVar[float] = 1e-3
    weight_decay: ClassVar[float] = 1e-2
    takes_attention: ClassVar[bool] = True

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        attention: Extent = "spatial",
        bases: int = 49,
        fusion: Fusion = "sum",
        dropout: float = 0.5,
        variance: float = 1e-5,
        orthogonality: float = 1e-5,
        complementary: float = 1e-3,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        check_option("bases", bases, at_least=1)
        check_option("dropout", dropout, at_least=0, below=1)
        self.weigh_losses(
            variance=variance, orthogonality=orthogonality, complementary=complementary
        )
        self.extent: Extent = attention
        self.attention_form = "frame" if attention == "spatial" else "clip"
        dims = [dim for _, dim in shape.layers.values()]
        self.attend = InteractionAttention(dims, bases, fusion=fusion)
        self.classify = PooledClassifier(dims[-1], num_classes, dropout=dropout)

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit mean and std of the mean cube, which is what uniform attention would classify."""
        self.classify.fit(mean_cube(batch.top, batch.mask) for batch in batches)

    def forward(
        self, batch: Batch, *, attention: Float[Tensor, "b t k k"] | None = None
    ) -> HeadOutput:
        """See `Head`; `attention` is used as given, it need not sum to one.

        Raises:
            UsageError: `attention` has another shape than the cubes' (B, T, K, K).
        """
        self.check_attention(attention, batch)
        grid_size, _ = self.shape.top
        sets = CellSets(batch.mask, grid_size, self.extent)
        scales = [sets.group(pool_to_grid(cubes, grid_size)) for cubes in batch.cubes.values()]
        attended = self.attend(scales, sets.valid)
        rows, num_cells = attended.rows, sets.valid.sum(1, keepdim=True).clamp(min=1)
        if attention is None:
            weights = rows.mean(1) / num_cells.to(rows.dtype).sqrt()
        else:
            weights = sets.from_map(attention)
        per_frame = "(b t) m (h w) -> b t m h w"
        axes = per_frame if self.extent == "spatial" else "b m (t h w) -> b t m h w"
        bases = rearrange(rows, axes, b=batch.mask.shape[0], h=grid_size, w=grid_size)
        return HeadOutput(
            logits=self.classify(sets.pool(scales[-1], weights)),
            maps={"spatial": sets.to_map(weights), "bases": bases},
            losses=self._losses(attended, scales[-1], sets),
        )

    def _losses(
        self, attended: CellAttention, top: Float[Tensor, "s n d"], sets: CellSets
    ) -> dict[str, Float[Tensor, ""]]:
        terms = {
            "variance": variance_term(attended.rows, top),
            "orthogonality": orthogonality_term(attended.rows),
            "complementary": complementary_term(attended, sets.valid),
        }
        num_clips = sets.mask.shape[0]
        return {
            name: masked_mean(term.reshape(num_clips, -1, 1), sets.step_mask).mean()
            for name, term in terms.items()
        }
