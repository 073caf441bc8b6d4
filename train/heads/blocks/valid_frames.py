"""The valid frames of all clips, one behind the other, and back: n of the B·T frames are valid."""

from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it


def padded(values: Float[Tensor, "n *rest"], mask: Bool[Tensor, "b t"]) -> Tensor:
    """Return (B, T, …) with the n valid frames in their places, zero elsewhere."""
    zeros = values.new_zeros(*mask.shape, *values.shape[1:])
    return zeros.index_put((mask,), values)


def mean_over_time(
    frames: Float[Tensor, "n d k k"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, "b d k k"]:
    """Return the mean frame of every clip; zero for a clip without any."""
    clips: Int[Tensor, " n"] = mask.nonzero()[:, 0]
    summed = frames.new_zeros(len(mask), *frames.shape[1:]).index_add(0, clips, frames)
    return summed / rearrange(mask.sum(1).clamp(min=1), "b -> b 1 1 1").to(frames.dtype)


def last_valid(mask: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    """Return a mask of the last valid frame of every clip."""
    return mask & ~F.pad(mask[:, 1:], (0, 1))
