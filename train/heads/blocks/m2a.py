"""The block of M2A, motion-aware attention (Gebotys, Wong, Clausi 2021, arXiv 2111.09976)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from train.heads.blocks.gated_means import GatedMeans
from train.heads.blocks.masked import masked_softmax, zero_masked
from train.heads.options import check_option

Mechanism = Literal["motion+attention", "attention+motion", "motion", "attention"]
LastMotion = Literal["faithful", "zero", "replicate"]
ScoreScale = Literal["root", "size"]


@dataclass(frozen=True)
class M2AGate:
    """From which the block's gate is made, and what can be shown of it; zero at masked frames.

    Attributes:
        inner: v, see `M2ABlock`.
        activation: |temporal term| averaged over channels, what the official code shows.
        frame_attention: the softmax over frames; None where the mechanism has none.
    """

    inner: Float[Tensor, "b t k k c"]
    activation: Float[Tensor, "b t k k"]
    frame_attention: Float[Tensor, "b t t"] | None

    @property
    def maps(self) -> dict[str, Tensor]:
        """What can be shown of it, by name."""
        maps = {"activation": self.activation, "frame_attention": self.frame_attention}
        return {name: values for name, values in maps.items() if values is not None}


@dataclass(frozen=True)
class M2AOutput(M2AGate):
    """What the block returns: x + x ⊙ gate, of the shape that came in; zero at masked frames."""

    cubes: Float[Tensor, "b t k k d"]


class M2ABlock(nn.Module):
    """x ⊙ σ(up(v)) + x, where v is what frames say of each other after 1×1 convolution to D/8.

    With u = down(x), û its layer norm over all D/8·K² values of a frame (no affine), m the motion
    of û and att(y) = softmax(y yᵀ / √E) y over frames, E the size of a frame, v is

    - "motion+attention": att(m) + u, the paper's block;
    - "attention+motion": the motion of att(û), plus u: the other order;
    - "motion": the motion of u itself, neither normalised nor added to it;
    - "attention": att(û) + u.

    Motion is the next frame minus this one; `last` says what it is where no next frame is valid.
    "faithful" to the official code it is minus the frame itself (a shift with zero padding), which
    is as large as the frame; "zero"; or "replicate", the motion before it.

    How near the frame attention comes to the identity depends on the clip, for |m_t|² / √E does. On
    real clips (every sixth of a data set of fights, inception_5b of Caffe's GoogLeNet, 16 frames)
    the diagonal of the softmax was 0.81 in the mean and 0.11 at the 5th percentile: nearly uniform
    on still clips. With `scale` "size" scores are divided by E and not by √E, which makes it nearly
    uniform where it was nearly the identity; "motion" has no scores.

    The paper's block is not always the best of these. On planted clips of 4 cells, whose class is
    whether they run backwards, it came to 0.49, "motion" to 0.78; the official code does the same.
    """

    def __init__(
        self,
        dim: int,
        *,
        reduction: int = 8,
        mechanism: Mechanism = "motion+attention",
        last: LastMotion = "faithful",
        scale: ScoreScale = "root",
    ) -> None:
        super().__init__()
        check_option("reduction", reduction, at_least=1, below=dim + 1)
        self.mechanism: Mechanism = mechanism
        self.last: LastMotion = last
        self.scale: ScoreScale = scale
        # A bias cancels in every difference of two frames; no other term would see it.
        has_bias = mechanism != "motion" or last == "faithful"
        self.down = nn.Linear(dim, dim // reduction, bias=has_bias)
        self.up = nn.Linear(dim // reduction, dim)

    def forward(self, cubes: Float[Tensor, "b t k k d"], mask: Bool[Tensor, "b t"]) -> M2AOutput:
        """Return the gated cubes."""
        cubes = zero_masked(cubes, mask)
        gate = self.gate(cubes, mask)
        gated = torch.addcmul(cubes, cubes, self.up(gate.inner).sigmoid())
        return M2AOutput(**vars(gate), cubes=gated)

    def gate(self, cubes: Float[Tensor, "b t k k d"], mask: Bool[Tensor, "b t"]) -> M2AGate:
        """Return what the gate is made from, of cubes that are zero at masked frames."""
        reduced = self.down(cubes)
        frames = rearrange(reduced, "b t h w c -> b t (h w c)")
        term, attention = self._temporal_term(frames, mask)
        inner = term if self.mechanism == "motion" else term + frames
        activation = reduce(term.abs().reshape(reduced.shape), "b t h w c -> b t h w", "mean")
        return M2AGate(inner.reshape(reduced.shape), activation, attention)

    def gated_frames(
        self, cubes: Float[Tensor, "b t k k d"], inner: Float[Tensor, "b t k k c"]
    ) -> Float[Tensor, "b t d"]:
        """Return the mean over cells of the gated cubes, which are never there as a whole."""
        weight, bias = self.up.weight, self.up.bias
        with torch.autocast(cubes.device.type, enabled=False):  # a block is not to be half in half
            frames: Tensor = GatedMeans.apply(
                rearrange(cubes.to(weight.dtype), "b t h w d -> (b t) (h w) d"),
                rearrange(inner.to(weight.dtype), "b t h w c -> (b t) (h w) c"),
                weight,
                bias,
            )
        return rearrange(frames, "(b t) d -> b t d", b=len(cubes))

    def _temporal_term(
        self, frames: Float[Tensor, "b t e"], mask: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b t e"], Float[Tensor, "b t t"] | None]:
        """Return what stands before the skip, and the attention over frames that made it."""
        if self.mechanism == "motion":
            return frame_motion(frames, mask, last=self.last), None
        normed = F.layer_norm(frames, frames.shape[-1:])
        if self.mechanism == "motion+attention":
            normed = frame_motion(normed, mask, last=self.last)
        term, attention = attend_to_frames(normed, mask, scale=self.scale)
        if self.mechanism == "attention+motion":
            term = frame_motion(term, mask, last=self.last)
        return term, attention


def frame_motion(
    frames: Float[Tensor, "b t e"], mask: Bool[Tensor, "b t"], *, last: LastMotion
) -> Float[Tensor, "b t e"]:
    """Return frames[t+1] − frames[t], zero at masked frames; see `M2ABlock` for `last`."""
    # frames   x0    x1    x2   (masked)
    # motion   x1-x0 x2-x1 last 0
    motion = F.pad(frames.diff(dim=1), (0, 0, 0, 1))
    has_next = F.pad(mask[:, 1:], (0, 1)).unsqueeze(-1)
    if last == "faithful":
        motion = motion.where(has_next, -frames)
    elif last == "zero":
        motion = motion.where(has_next, 0.0)
    else:
        motion = motion.where(has_next, F.pad(motion, (0, 0, 1, -1)))
    return zero_masked(motion, mask)


def attend_to_frames(
    frames: Float[Tensor, "b t e"], mask: Bool[Tensor, "b t"], *, scale: ScoreScale
) -> tuple[Float[Tensor, "b t e"], Float[Tensor, "b t t"]]:
    """Return softmax(x xᵀ / √E) x over valid frames and the softmax, zero at masked frames.

    With `scale` "size" it is x xᵀ / E.
    """
    size = frames.shape[-1]
    divisor = math.sqrt(size) if scale == "root" else size
    scores = einsum(frames, frames, "b t e, b s e -> b t s") / divisor
    weights = zero_masked(masked_softmax(scores, mask), mask)
    return einsum(weights, frames, "b t s, b s e -> b t e"), weights
