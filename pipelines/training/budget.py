"""From a budget of core-seconds to a number of epochs, before the first fit of a head.

What a clip costs is measured on a few batches, in processor time on a CPU: a busy machine does not
change it much. All heads of a table then have the same budget, and each run has the epochs that
its first call found.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipelines.training.planned import PlannedHead
from train.data.ahead import BatchReader, Epoch
from train.data.clips import Clips
from train.data.order import cut
from train.fitting.config import TrainConfig
from train.fitting.loop import class_weights
from train.fitting.predicting import predict_together
from train.fitting.state import Candidate, FitState
from train.fitting.tasks import task_of
from train.protocol.jobs import FitJob, validation_jobs
from train.protocol.runs import Labelled
from train.protocol.splits import Split

logger = logging.getLogger("cubereel")
MEASURED_BATCHES = 4
MEASURED_SECONDS = 3.0  # no batch is begun after them


@dataclass(frozen=True)
class ClipCosts:
    """Seconds for each clip: of a training step, of a prediction, of statistics before a fit."""

    step: float
    predict: float
    begin: float


def budgeted_epochs(
    head: PlannedHead,
    data_of: Callable[[str | None], Labelled],
    splits: Sequence[Split],
    *,
    num_seeds: int,
) -> int:
    """Return how many epochs of all its fits a head's budget is enough for; 1 at least.

    Args:
        data_of: the head's videos as its fits get them, with a layer that it may choose.
    """
    budget, most = head.config.budget, head.config.most_epochs
    assert budget is not None
    candidates = head.candidates
    validation = list(validation_jobs(head.label, candidates, splits))
    costs = {
        layer: measure_costs(head, data_of(layer), splits[0].fitting, layer)
        for layer in dict.fromkeys(candidate.layer for candidate in candidates)
    }
    # Which layer is tested, nobody knows yet: at worst the dearest.
    dearest = max(candidates, key=lambda candidate: costs[candidate.layer].step)
    tests = [
        FitJob(head.label, fold, None, dearest, seed)
        for fold in range(len(splits))
        for seed in range(num_seeds)
    ]
    per_epoch, fixed = _seconds(costs, [*validation, *tests], head.data.clips, splits)
    epochs = max(1, min(most, math.floor((budget - fixed) / per_epoch)))
    needed = fixed + per_epoch * epochs
    logger.info("%s: %d epochs, at most %.0f core-seconds", head.label, epochs, needed)
    if needed > budget:
        logger.warning(
            "%s: one epoch of all its fits takes about %.0f core-seconds, more than `budget` %g",
            head.label, needed, budget,
        )  # fmt: skip
    return epochs


def _seconds(
    costs: Mapping[str | None, ClipCosts],
    jobs: Sequence[FitJob],
    clips: Clips,
    splits: Sequence[Split],
) -> tuple[float, float]:
    """Return what an epoch of all jobs costs, and what they cost whatever the epochs."""
    per_epoch = fixed = 0.0
    for job in jobs:
        split, of_clip = splits[job.fold], costs[job.candidate.layer]
        num_fitted = len(clips.of_videos(job.fitted(split)))
        asking = len(clips.of_videos(job.asked(split))) * of_clip.predict
        per_epoch += num_fitted * of_clip.step
        fixed += num_fitted * of_clip.begin
        if job.inner is None:
            fixed += asking
        else:
            per_epoch += asking
    return per_epoch, fixed


def measure_costs(
    head: PlannedHead, data: Labelled, train: np.ndarray, layer: str | None
) -> ClipCosts:
    """Return what clips cost in fits that share a read, as many as read a layer."""
    config, clips = head.config, data.clips
    states = [_state(head, data, each) for each in head.candidates if each.layer == layer]
    positions = clips.of_videos(train)[: MEASURED_BATCHES * config.batch_size]
    started = _now(clips)
    for state in states:
        state.begin(Epoch(clips, positions, config.batch_size), num_steps=MEASURED_BATCHES)
    begin = (_now(clips) - started) / len(positions)
    seconds, num_stepped = _step(states, data, positions, config)
    started = _now(clips)
    videos = np.unique(clips.videos_of(positions[: config.batch_size]))
    predict_together([state.head for state in states], clips, videos, config)
    asked = (_now(clips) - started) / len(clips.of_videos(videos))
    return ClipCosts(seconds / num_stepped / len(states), asked / len(states), begin / len(states))


def _state(head: PlannedHead, data: Labelled, candidate: Candidate) -> FitState:
    return FitState(
        lambda: head.choice.build(data.clips, len(data.classes)),
        seed=0,
        candidate=candidate,
        config=head.config,
        device=data.clips.device,
    )


def _step(
    states: Sequence[FitState], data: Labelled, positions: np.ndarray, config: TrainConfig
) -> tuple[float, int]:
    """Return the seconds of some training steps and their clips; a first one is not counted."""
    clips, task = data.clips, task_of(config)
    weights = class_weights(states[0].head, clips, data.labels, positions, config)
    batches = cut(positions, config.batch_size)
    for state in states:
        state.head.train()
    seconds, num_clips, first = 0.0, 0, _now(clips)
    started = first
    for number, (chosen, batch) in enumerate(BatchReader(clips).read([batches[0], *batches])):
        targets = torch.from_numpy(data.labels[clips.videos_of(chosen)]).to(clips.device)
        for state in states:
            state.step(batch, targets, weights, task)
        ended = _now(clips)
        if number:
            seconds += ended - started
            num_clips += len(chosen)
        started = ended
        if number and ended - first > MEASURED_SECONDS:
            break
    return seconds, num_clips


def _now(clips: Clips) -> float:
    """Return processor seconds, or those of the clock once a GPU is done."""
    if clips.device.type == "cuda":
        torch.cuda.synchronize(clips.device)
        return time.perf_counter()
    return time.process_time()
