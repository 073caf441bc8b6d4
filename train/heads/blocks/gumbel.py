"""Discrete choices with a gradient: Gumbel-softmax, Gumbel-sigmoid, hard sigmoid, straight-through.

A relaxed choice becomes a hard one by *straight-through*: the forward value is hard, the gradient
that of the relaxed one. Noise is drawn for all steps at once by the caller; without it (None) the
most probable choice is made, which is what evaluation does.

How sharp a relaxed choice is, a temperature says, or the slope of a hard sigmoid. A temperature is
constant, annealed by the clock of this file, or adaptive: the state says it.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from train.data.batch import Batch

Temperature = Tensor | float

LOWEST_TEMPERATURE = 0.05  # below it gradients vanish or explode
LARGEST_SLOPE = 5.0

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


class AdaptiveTemperature(nn.Module):
    """τ = 1 / (softplus(wᵀh + b) + 1), in (0, 1) (Yan et al. 2017, form of Gulcehre et al. 2017).

    It starts at 1 / (ln 2 + 1) = 0.59 for every h.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Float[Tensor, "*axes n"]) -> Float[Tensor, "*axes 1"]:
        """Return the temperature that a hidden state asks for."""
        temperature = 1 / (F.softplus(self.linear(hidden)) + 1)
        return temperature.clamp(min=LOWEST_TEMPERATURE)


class AnnealingClock(nn.Module):
    """Counts training steps, and says which share of the annealing is over.

    A head is not told when an epoch ends. It sees every training batch of an epoch once before the
    first step, in `Head.fit_statistics`, and counts them there; until then an epoch is one step.
    """

    num_steps: Int[Tensor, ""]
    steps_per_epoch: Int[Tensor, ""]

    def __init__(self, num_epochs: int) -> None:
        super().__init__()
        self.num_epochs = num_epochs
        self.register_buffer("num_steps", torch.tensor(0))
        self.register_buffer("steps_per_epoch", torch.tensor(1))

    def count_epoch(self, batches: Iterable[Batch]) -> None:
        """Learn how many steps an epoch has."""
        self.steps_per_epoch.fill_(max(1, sum(1 for _ in batches)))

    def tick(self) -> None:
        """Count one training step."""
        self.num_steps += 1

    def forward(self) -> Float[Tensor, ""]:
        """Return the share of the annealing that is over, from 0 to 1."""
        return (self.num_steps / (self.num_epochs * self.steps_per_epoch)).clamp(max=1)


def annealed_temperature(progress: Float[Tensor, ""], *, lowest: float) -> Float[Tensor, ""]:
    """Return τ on its way from 1 down to `lowest`, by the same factor at every step."""
    return torch.pow(lowest, progress)


def annealed_slope(progress: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Return the slope on its way from 1 up to 5, linearly (Chung et al. 2016)."""
    return 1 + (LARGEST_SLOPE - 1) * progress
