"""From a job to a fit: a head with seeded initial weights, fitted, and what it says of videos."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from train.data.clips import Clips
from train.data.labels import Labels, missing_classes
from train.fitting.config import TrainConfig
from train.fitting.loop import fit, predict
from train.fitting.seeding import seeded
from train.heads import Head, HeadChoice
from train.protocol.jobs import FitJob, Selection
from train.protocol.splits import Split

logger = logging.getLogger("cubereel")


@dataclass(frozen=True)
class Labelled:
    """Videos with what is said about them.

    Attributes:
        labels: of `classes`, as the task that the configuration says has them.
        groups: number of each video's set of tied videos, which no split parts.
        group_names: what the manifest calls its group.
    """

    clips: Clips
    labels: Labels
    groups: np.ndarray
    classes: tuple[str, ...]
    group_names: tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """What is kept of one fit: what the head says of the videos that it was asked about.

    Attributes:
        train_losses: mean of each epoch.
        seconds: that fitting took.
    """

    probs: Float[np.ndarray, "n classes"]
    train_losses: list[float]
    num_parameters: int
    seconds: float


@dataclass(frozen=True)
class FoldResult:
    """One fold and seed: what validation chose, and the fit that was tested."""

    fold: int
    seed: int
    selection: Selection
    fit: Fit

    @property
    def probs(self) -> Float[np.ndarray, "n classes"]:
        """Of the fold's test videos."""
        return self.fit.probs


def run_fit(
    job: FitJob, choice: HeadChoice, data: Labelled, split: Split, config: TrainConfig
) -> tuple[Head, Fit]:
    """Return a head fitted on the job's videos, and what it says of those that it is asked about.

    Args:
        choice, config: of the row that the job names.
        split: the fold that it names.
    """
    started = time.monotonic()
    with seeded(job.seed):
        head = choice.build(data.clips, len(data.classes))
        losses = fit(
            head,
            data.clips,
            data.labels,
            train=job.fitted(split),
            candidate=job.candidate,
            config=config,
            seed=job.seed,
        )
    seconds = time.monotonic() - started
    num_parameters = sum(p.numel() for p in head.parameters())
    probs = predict(head, data.clips, job.asked(split), config)
    return head, Fit(probs, losses, num_parameters, seconds)


def warn_of_missing_classes(data: Labelled, splits: Sequence[Split]) -> list[str]:
    """Log and return what each fold lacks: a class that cannot be learnt or not be tested there."""
    warnings = []
    for fold, split in enumerate(splits):
        for side, positions in (("fitting", split.fitting), ("test", split.test)):
            missing = missing_classes(data.labels, positions, data.classes)
            if missing:
                warnings.append(f"fold {fold} has no {side} video of: {', '.join(missing)}")
    for warning in warnings:
        logger.warning("%s", warning)
    return warnings
