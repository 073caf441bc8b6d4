"""A small transformer encoder over frames (Vaswani et al. 2017): a yardstick that knows order."""

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.attentive_probe import check_heads
from train.heads.base import Head
from train.heads.blocks.masked import masked_mean, zero_masked
from train.heads.blocks.standardise import Standardise
from train.heads.options import Depth, Dropout, PositiveInt
from train.heads.registry import register_head


@register_head("transformer")
class Transformer(Head):
    """Frames averaged over cells, standardised, self-attention layers, mean over time; (B, 1, C).

    Layers normalise first. Positions are sines and cosines, so that a clip may have any length.
    """

    source: ClassVar[str] = "Vaswani et al. 2017, arXiv 1706.03762, section 3.1"
    learning_rate: ClassVar[float] = 5e-4
    weight_decay: ClassVar[float] = 1e-2

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        hidden: PositiveInt = 128,
        heads: PositiveInt = 4,
        layers: Depth = 2,
        dropout: Dropout = 0.1,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        check_heads(hidden, heads)
        self.standardise = Standardise(self.dim)
        self.embed = nn.Linear(self.dim, hidden)
        layer = nn.TransformerEncoderLayer(
            hidden,
            heads,
            dim_feedforward=4 * hidden,
            dropout=dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            layer, layers, norm=nn.LayerNorm(hidden), enable_nested_tensor=False
        )
        self.classify = nn.Linear(hidden, num_classes)

    def condense(self, batch: Batch) -> dict[str, Tensor]:
        """Return frames (B, T, D), zero where masked."""
        return {"frames": zero_masked(batch.frames, batch.mask)}

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit mean and std of the frames to the training clips."""
        self.standardise.fit(self.condensed(batch)["frames"][batch.mask] for batch in batches)

    def forward(self, batch: Batch) -> HeadOutput:
        """See `Head`."""
        embedded = self.embed(self.standardise(self.condensed(batch)["frames"]))
        positions = sinusoidal_positions(embedded.shape[1], embedded.shape[2], like=embedded)
        encoded = self.encoder(embedded + positions, src_key_padding_mask=~batch.mask)
        logits = self.classify(masked_mean(encoded, batch.mask))
        return HeadOutput(logits=logits.unsqueeze(1), maps={}, losses={})


def sinusoidal_positions(num_frames: int, size: int, *, like: Tensor) -> Float[Tensor, "t n"]:
    """Return sin(t / 10000^(2i/n)) for the first half of i, cos for the other."""
    times = torch.arange(num_frames, dtype=torch.float32, device=like.device).unsqueeze(1)
    rates = torch.arange((size + 1) // 2, dtype=torch.float32, device=like.device)
    angles = times * torch.exp(rates * (-2 * math.log(10_000) / size))
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :size].to(like.dtype)
