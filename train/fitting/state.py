"""One head on its way: its optimiser, its rate, its random numbers, and its learning curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from train.data.batch import Batch
from train.fitting.config import TrainConfig
from train.fitting.schedules import Schedule
from train.fitting.seeding import Randomness
from train.fitting.tasks import Task
from train.heads import Head


@dataclass(frozen=True)
class Candidate:
    """One point of the grid that validation chooses from.

    Attributes:
        layer: that the head reads; None for all of its row.
    """

    learning_rate: float
    weight_decay: float
    layer: str | None = None

    @property
    def name(self) -> str:
        """For files."""
        # Quoted and not replaced: no two layers may have the same file.
        layer = "" if self.layer is None else f"-{quote(self.layer, safe='@')}"
        return f"lr{self.learning_rate:g}-wd{self.weight_decay:g}{layer}"


def candidates(head: type[Head], config: TrainConfig) -> list[Candidate]:
    """Return the grid: every rate with every weight decay, and every layer if it is chosen."""
    rate = head.learning_rate
    rates = config.learning_rates or (rate / 3, rate, 3 * rate)
    decays = config.weight_decays or (head.weight_decay,)
    layers = config.layers if config.choose_layer else (None,)
    return [Candidate(r, d, layer) for layer in layers for r in rates for d in decays]


class FitState:
    """What differs between fits that see the same batches.

    Args:
        build: returns a new head; its weights, and all that is drawn later, follow from `seed`.
        patience: None goes on to the last epoch, whatever validation says.

    Attributes:
        losses: mean training loss of each epoch.
        curve: metric and loss of the validation videos after each epoch, where there are any.
        best: how many epochs it had had when validation liked it best, and what it said then. With
            no `patience` that is the last time.
    """

    def __init__(
        self,
        build: Callable[[], Head],
        *,
        seed: int,
        candidate: Candidate,
        config: TrainConfig,
        device: torch.device,
        patience: int | None = None,
    ) -> None:
        self._randomness = Randomness(seed, device)
        with self._randomness.turn():
            self.head = build()
        self._candidate, self._patience, self._kind = candidate, patience, config.schedule
        self._largest_norm = config.clip_gradients
        self._optimiser = make_optimiser(self.head, candidate, config)
        self._running: list[Tensor] = []
        self.losses: list[float] = []
        self.curve: list[tuple[float, float]] = []
        self.best: tuple[int, np.ndarray] | None = None

    def begin(self, batches: Iterable[Batch], *, num_steps: int) -> None:
        """Fit statistics to the training clips, before the first of so many steps."""
        self._schedule = Schedule(self._kind, num_steps)
        with self._randomness.turn():
            self.head.prepare(batches)

    def step(self, batch: Batch, targets: Tensor, weights: Tensor | None, task: Task) -> None:
        """Learn from one batch."""
        share = self._schedule.next_share()
        for group in self._optimiser.param_groups:
            group["lr"] = self._candidate.learning_rate * share
        self._optimiser.zero_grad(set_to_none=True)
        with self._randomness.turn():
            loss = training_loss(self.head, batch, targets, weights, task)
            torch.autograd.backward(loss)
        if self._largest_norm is not None:
            nn.utils.clip_grad_norm_(self.head.parameters(), self._largest_norm)
        self._optimiser.step()
        self._running.append(loss.detach())

    def end_epoch(self) -> None:
        """Take down the epoch's loss."""
        self.losses.append(float(torch.stack(self._running).mean()))
        self._running.clear()
        self._schedule.end_epoch(self.losses[-1])

    def judge(self, probs: Float[np.ndarray, "n classes"], labels: np.ndarray, task: Task) -> None:
        """Take down what the head says of the validation videos by now."""
        is_finite = np.isfinite([*probs.flat, self.losses[-1]]).all()
        self.curve.append(task.validate(probs, labels) if is_finite else (-math.inf, math.inf))
        if self._patience is None or best_epoch(self.curve) == len(self.curve):
            self.best = len(self.curve), probs

    @property
    def is_done(self) -> bool:
        """Whether more epochs would be in vain: it has diverged, or runs out of patience."""
        if self.losses and not math.isfinite(self.losses[-1]):
            return True
        if self._patience is None or not self.curve:
            return False
        return len(self.curve) - best_epoch(self.curve) >= self._patience


def best_epoch(curve: list[tuple[float, float]]) -> int:
    """Return how many epochs led to the best score, the lower loss among equals; 1 at least.

    >>> best_epoch([(0.5, 0.9), (0.7, 0.8), (0.7, 0.6), (0.6, 0.1)])
    3
    """
    return 1 + max(range(len(curve)), key=lambda i: (curve[i][0], -curve[i][1]))


def training_loss(
    head: Head, batch: Batch, targets: Tensor, weights: Tensor | None, task: Task
) -> Float[Tensor, ""]:
    """Return the task's loss plus the head's regularisers by their weights."""
    output = head(batch)
    loss = task.loss(output.logits, targets, batch.mask, weights)
    for name, weight in head.loss_weights.items():
        if weight:
            loss = loss + weight * output.losses[name]
    return loss


def make_optimiser(head: Head, candidate: Candidate, config: TrainConfig) -> torch.optim.Optimizer:
    """Return Adam or AdamW with weight decay on matrices alone, not on biases."""
    trained = [p for p in head.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": candidate.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(
        [group for group in groups if group["params"]], lr=candidate.learning_rate, fused=True
    )
