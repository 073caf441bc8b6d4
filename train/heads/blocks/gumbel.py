"""Discrete choices with a gradient: Gumbel-softmax, Gumbel-sigmoid, hard sigmoid, straight-through.

A relaxed choice becomes a hard one by *straight-through*: the forward value is hard, the gradient
that of the relaxed one. Noise is drawn for all steps at once by the caller; without it (None) the
most probable choice is made, which is what evaluation does.
"""

import torch
from jaxtyping import Float
from torch import Tensor

Temperature = Tensor | float

# Uniform numbers are kept away from 0 and 1, where the noise would be infinite in float32.
_MARGIN = 1e-7


def gumbel_noise(shape: tuple[int, ...], *, like: Tensor) -> Tensor:
    """Return −log(−log u), u uniform on (0, 1), on the device of `like`, float32 at least."""
    return -(-_uniform(shape, like).log()).log()


def logistic_noise(shape: tuple[int, ...], *, like: Tensor) -> Tensor:
    """Return log u − log(1 − u), which is distributed as the difference of two Gumbel numbers."""
    return _uniform(shape, like).logit()


def gumbel_softmax(
    logits: Float[Tensor, "*axes p"],
    temperature: Temperature,
    noise: Float[Tensor, "*axes p"] | None,
) -> Float[Tensor, "*axes p"]:
    """Return softmax((logits + g) / τ), a relaxed sample of softmax(logits) (Jang et al. 2017)."""
    return (_noisy(logits, noise) / temperature).softmax(dim=-1).to(logits.dtype)


def gumbel_sigmoid(
    logits: Float[Tensor, "*axes"], temperature: Temperature, noise: Float[Tensor, "*axes"] | None
) -> Float[Tensor, "*axes"]:
    """Return σ((logit + g₁ − g₂) / τ), a relaxed sample that is 1 with probability σ(logit)."""
    return (_noisy(logits, noise) / temperature).sigmoid().to(logits.dtype)


def hard_sigmoid(logits: Float[Tensor, "*axes"], slope: Temperature) -> Float[Tensor, "*axes"]:
    """Return clip((a z̃ + 1) / 2, 0, 1) with slope a (Chung et al. 2016)."""
    return ((slope * logits + 1) / 2).clamp(0, 1)


def straight_through_one_hot(relaxed: Float[Tensor, "*axes p"]) -> Float[Tensor, "*axes p"]:
    """Return 1 at the largest entry and 0 elsewhere, with the gradient of `relaxed`."""
    hard = torch.zeros_like(relaxed).scatter_(-1, relaxed.argmax(dim=-1, keepdim=True), 1.0)
    return _straight_through(hard, relaxed)


def straight_through_threshold(relaxed: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """Return 1 where `relaxed` is above one half, else 0, with the gradient of `relaxed`."""
    return _straight_through((relaxed > 0.5).to(relaxed.dtype), relaxed)


def _straight_through(hard: Tensor, relaxed: Tensor) -> Tensor:
    # hard + (relaxed - relaxed) is exactly hard; (hard + relaxed) - relaxed would be rounded.
    return hard + (relaxed - relaxed.detach())


def _noisy(logits: Tensor, noise: Tensor | None) -> Tensor:
    return logits if noise is None else logits + noise


def _uniform(shape: tuple[int, ...], like: Tensor) -> Tensor:
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.rand(shape, dtype=dtype, device=like.device).clamp(_MARGIN, 1 - _MARGIN)
