"""What goes into a head and what comes out: the one contract between data, heads and the loop.

A mask is True at valid frames and prefix-shaped: True first, then False. Whatever stands in a
masked frame, it may not change logits at valid steps, maps or losses.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class InputShape:
    """What a head must know of the store before it sees a batch.

    Attributes:
        layers: layer name to (K, D), in the order asked for; the last one is the top.
        diff_grid: G of the stored frame differences, None when they are not read.
    """

    layers: dict[str, tuple[int, int]]
    diff_grid: int | None = None

    @property
    def top(self) -> tuple[int, int]:
        """K and D of the last layer."""
        return next(reversed(self.layers.values()))


@dataclass(frozen=True)
class Batch:
    """A batch of clips, padded to one length T.

    Attributes:
        cubes: layer name to cubes, in the order asked for; the last one is the top.
        diffs: stored frame differences, the first frame's is zero; None when not read.
        mask: True at valid frames; True first, then False.
        condensed: what `Head.condense` returned for these clips, instead of cubes and diffs.
        derived: what heads have made of this batch and others may use, by what it was made with.
    """

    cubes: dict[str, Float[Tensor, "..."]]  # shapes differ by layer: see __post_init__
    diffs: Float[Tensor, "b t g g 3"] | None
    mask: Bool[Tensor, "b t"]
    condensed: dict[str, Tensor] | None = None
    derived: dict[Hashable, "Batch"] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for layer, cubes in self.cubes.items():
            if cubes.ndim != 5 or cubes.shape[2] != cubes.shape[3]:
                raise ValueError(
                    f"cubes of layer {layer!r} must be (B, T, K, K, D), got {tuple(cubes.shape)}"
                )
            if cubes.shape[:2] != self.mask.shape:
                raise ValueError(
                    f"mask must be (B, T) = {tuple(cubes.shape[:2])} as the cubes of layer "
                    f"{layer!r}, got {tuple(self.mask.shape)}"
                )

    @property
    def top(self) -> Float[Tensor, "b t k k d"]:
        """Cubes of the last layer."""
        return next(reversed(self.cubes.values()))

    @cached_property
    def frames(self) -> Float[Tensor, "b t d"]:
        """Mean over the cells of each frame of `top`; once for all heads that see this batch."""
        cells = rearrange(self.top, "b t h w d -> (b t) (h w) d")
        # As a product: torch's mean over an inner axis takes more than twice as long.
        shares = cells.new_full((1, 1, cells.shape[1]), 1 / cells.shape[1])
        means = torch.bmm(shares.expand(len(cells), -1, -1), cells)
        return means.reshape(*self.mask.shape, -1)


@dataclass(frozen=True)
class HeadOutput:
    """What a head returns.

    Attributes:
        logits: one row per step, or a single row per clip; at masked steps they mean nothing.
        maps: named attention weights and the like, zero at masked frames.
        losses: named regularisers, scalars, not yet weighted (see `Head.loss_weights`).
    """

    logits: Float[Tensor, "b steps classes"]
    maps: dict[str, Tensor]
    losses: dict[str, Float[Tensor, ""]]
