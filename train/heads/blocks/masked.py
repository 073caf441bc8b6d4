"""Averages and softmaxes that padding cannot reach."""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor


def masked_mean(values: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
    """Return the mean over valid frames; zero for a clip without any."""
    # Selecting and not multiplying: 0 * inf would be nan.
    summed = zero_masked(values, mask).sum(1)
    return summed / mask.sum(1, keepdim=True).clamp(min=1).to(values.dtype)


def zero_masked(
    values: Shaped[Tensor, "b t *rest"], mask: Bool[Tensor, "b t"]
) -> Shaped[Tensor, "b t *rest"]:
    """Return cubes, maps or whatever else frames have, zero at masked frames.

    They are returned as they are where it is known that no frame is masked: a copy of all cubes
    would take longer than many a head.
    """
    if is_known_full(mask):
        return values
    return values.where(mask.reshape(*mask.shape, *[1] * (values.ndim - 2)), 0)


def masked_softmax(
    scores: Float[Tensor, "b rows n"], valid: Bool[Tensor, "b n"]
) -> Float[Tensor, "b rows n"]:
    """Return the softmax of each row over the valid entries, zero at the others."""
    if is_known_full(valid):
        return scores.softmax(dim=-1)
    among = valid.unsqueeze(1)
    # The lowest finite number and not -inf, by which a row without a valid entry would become nan.
    return scores.where(among, torch.finfo(scores.dtype).min).softmax(dim=-1).where(among, 0.0)


def is_known_full(mask: Bool[Tensor, "*shape"]) -> bool:
    """Whether all is valid, on a CPU; False on a GPU, which would have to be waited for."""
    return mask.device.type == "cpu" and bool(mask.all())
