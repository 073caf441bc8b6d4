"""How sharp a relaxed choice is: temperatures of Gumbel distributions, slopes of hard sigmoids.

A temperature is constant, annealed by the clock of this file, or adaptive: the state says it.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from train.data.batch import Batch

LOWEST_TEMPERATURE = 0.05  # below it gradients vanish or explode
LARGEST_SLOPE = 5.0


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
