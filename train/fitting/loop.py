"""The training loop: plain PyTorch. Fits that see the same videos share each batch that is read.

What differs between them is in `train.fitting.state`; what validation chooses between, and how
many epochs, is in `train.protocol`. The order of batches has a seed of its own, so that fits that
share them equal fits that were alone.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from train.data.ahead import BatchReader, Epoch
from train.data.clips import Clips
from train.data.labels import Labels
from train.data.order import shuffled_batches
from train.fitting.config import TrainConfig
from train.fitting.predicting import predict_together
from train.fitting.state import Candidate, FitState
from train.fitting.tasks import Task, task_of
from train.heads import Head


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
    """Fit a head in place for all epochs; return each epoch's mean loss.

    Args:
        labels: of every video of `clips`, as the task of `config` has them.
        train: positions of videos.
        seed: of what is drawn in training, such as dropout; the order is `config.order_seed`'s.
    """
    state = FitState(
        lambda: head, seed=seed, candidate=candidate, config=config, device=clips.device
    )
    fit_together([state], clips, labels, train=train, config=config)
    return state.losses


def fit_together(
    states: Sequence[FitState],
    clips: Clips,
    labels: Labels,
    *,
    train: np.ndarray,
    config: TrainConfig,
    validation: np.ndarray | None = None,
    num_epochs: int | None = None,
) -> None:
    """Fit heads in place by Adam; each batch is read once for all of them.

    Args:
        labels: of every video of `clips`, as the task of `config` has them.
        train: positions of videos.
        validation: positions of videos that every head is asked about after each epoch.
        num_epochs: how many of the configuration's epochs; the rates are as if all were to come.
    """
    task = task_of(config)
    positions = clips.of_videos(train)
    weights = class_weights(states[0].head, clips, labels, positions, config)
    num_steps = config.epochs * math.ceil(len(positions) / config.batch_size)
    for state in states:
        state.begin(Epoch(clips, positions, config.batch_size), num_steps=num_steps)
    rng, reader = np.random.default_rng(config.order_seed), BatchReader(clips)
    for _ in range(config.epochs if num_epochs is None else num_epochs):
        going = [state for state in states if not state.is_done]
        if not going:
            return
        for state in going:
            state.head.train()
        order = shuffled_batches(positions, clips.lengths, batch_size=config.batch_size, rng=rng)
        for chosen, batch in reader.read(order):
            targets = torch.from_numpy(labels[clips.videos_of(chosen)]).to(clips.device)
            for state in going:
                state.step(batch, targets, weights, task)
        for state in going:
            state.end_epoch()
        if validation is not None:
            _judge(going, clips, labels, validation, config, task)


def class_weights(
    head: Head, clips: Clips, labels: Labels, positions: np.ndarray, config: TrainConfig
) -> Tensor | None:
    """Return the weights of classes among some clips, if they are to count the same."""
    if not config.class_weights:
        return None
    of_clips = labels[clips.videos_of(positions)]
    return task_of(config).class_weights(of_clips, head.num_classes).to(clips.device)


def _judge(
    states: Sequence[FitState],
    clips: Clips,
    labels: Labels,
    validation: np.ndarray,
    config: TrainConfig,
    task: Task,
) -> None:
    said = predict_together([state.head for state in states], clips, validation, config)
    for state, each in zip(states, said, strict=True):
        state.judge(each.probs, labels[validation], task)
