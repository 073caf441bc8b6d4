"""The training loop: plain PyTorch, all of it in this file.

A fit runs for a fixed number of epochs. What validation chooses between is in
`train.protocol.runs`.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from features_store.errors import ContractError
from train.data.batch import Batch
from train.data.clips import Clips, Epoch
from train.data.labels import Labels
from train.fitting.config import TrainConfig
from train.fitting.tasks import Task, task_of
from train.heads import Head
from train.scores.metrics import aggregate


@dataclass(frozen=True)
class Candidate:
    """One point of the grid that validation chooses from."""

    learning_rate: float
    weight_decay: float

    @property
    def name(self) -> str:
        """For files."""
        return f"lr{self.learning_rate:g}-wd{self.weight_decay:g}"


def candidates(head: type[Head], config: TrainConfig) -> list[Candidate]:
    """Return the grid: every rate with every weight decay."""
    rate = head.learning_rate
    rates = config.learning_rates or (rate / 3, rate, 3 * rate)
    decays = config.weight_decays or (head.weight_decay,)
    return [Candidate(r, d) for r in rates for d in decays]


def fit(
    head: Head,
    clips: Clips,
    labels: Labels,
    *,
    train: np.ndarray,
    candidate: Candidate,
    config: TrainConfig,
    seed: int,
) -> list[float]:
    """Fit a head in place by Adam, the rate falling as a cosine; return each epoch's mean loss.

    Args:
        labels: of every video of `clips`, as the task of `config` has them.
        train: positions of videos.
    """
    task = task_of(config)
    generator = np.random.default_rng(seed)
    positions = clips.of_videos(train)
    weights = None
    if config.class_weights:
        of_clips = labels[clips.videos_of(positions)]
        weights = task.class_weights(of_clips, head.num_classes).to(clips.device)
    head.fit_statistics(Epoch(clips, positions, config.batch_size))
    optimiser = make_optimiser(head, candidate, config)
    num_steps = config.epochs * math.ceil(len(positions) / config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, num_steps)
    epoch_losses = []
    for _ in range(config.epochs):
        head.train()
        losses = []
        order = generator.permutation(positions)
        for chosen, batch in clips.batches(order, batch_size=config.batch_size):
            targets = torch.from_numpy(labels[clips.videos_of(chosen)]).to(clips.device)
            loss = training_loss(head, batch, targets, weights, task)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            losses.append(loss.detach())
        epoch_losses.append(float(torch.stack(losses).mean()))
    return epoch_losses


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
    matrices = [p for p in head.parameters() if p.ndim > 1]
    others = [p for p in head.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": candidate.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind([group for group in groups if group["params"]], lr=candidate.learning_rate)


@torch.inference_mode()
def predict(
    head: Head, clips: Clips, videos: np.ndarray, config: TrainConfig
) -> Float[np.ndarray, "n classes"]:
    """Return the class probabilities of videos, in their order.

    Raises:
        ContractError: a video has no clip.
    """
    head.eval()
    task = task_of(config)
    positions = clips.of_videos(videos)
    probs = np.zeros((len(positions), head.num_classes))
    done = 0
    for chosen, batch in clips.batches(positions, batch_size=config.batch_size):
        output = head(batch)
        block = task.clip_probabilities(output.logits, batch.mask, last_n=config.last_n)
        probs[done : done + len(chosen)] = block.double().cpu().numpy()
        done += len(chosen)
    present, per_video = aggregate(probs, clips.videos_of(positions), how=config.aggregate)
    if missing := sorted(set(map(int, videos)) - set(map(int, present))):
        raise ContractError(
            f"video {clips.video_ids[missing[0]]!r} has no clip to be judged by; "
            f"{len(missing)} of {len(videos)} videos have none"
        )
    return per_video[np.searchsorted(present, videos)]
