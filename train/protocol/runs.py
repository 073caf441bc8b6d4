"""From jobs to fits: heads with seeded initial weights, fitted, and what they say of videos."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from train.data.clips import Clips
from train.data.labels import Labels, missing_classes
from train.fitting.config import TrainConfig
from train.fitting.loop import fit_together
from train.fitting.predicting import Said, predict_together
from train.fitting.state import FitState
from train.heads import Head, HeadChoice
from train.protocol.jobs import FitGroup, Selection
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
        seconds: that it took; of fits that were done together, an equal share.
        curve: metric and loss of the validation videos after each epoch; nothing for a test.
        epochs: after how many the head said it.
        map_means: of a test: the means over frames of the maps that the head reports.
    """

    probs: Float[np.ndarray, "n classes"]
    train_losses: list[float]
    num_parameters: int
    seconds: float
    curve: list[tuple[float, float]]
    epochs: int
    map_means: dict[str, list[float]] = field(default_factory=dict)


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


def run_fits(
    group: FitGroup, choice: HeadChoice, data: Labelled, split: Split, config: TrainConfig
) -> list[tuple[Head, Fit]]:
    """Return heads fitted on the group's videos, and what they say of those they are asked about.

    Args:
        choice, config: of the row that the group's jobs name.
        split: the fold that they name.
    """
    started, first = time.monotonic(), group.first
    is_inner = first.inner is not None
    states = [
        FitState(
            lambda: choice.build(data.clips, len(data.classes)),
            seed=job.seed,
            candidate=job.candidate,
            config=config,
            device=data.clips.device,
            patience=config.patience if is_inner else None,
        )
        for job in group.jobs
    ]
    fit_together(
        states,
        data.clips,
        data.labels,
        train=first.fitted(split),
        config=config,
        validation=first.asked(split) if is_inner else None,
        num_epochs=first.epochs,
    )
    heads = [state.head for state in states]
    if is_inner:
        said = [Said(state.best[1], {}) for state in states if state.best is not None]
    else:
        said = predict_together(heads, data.clips, first.asked(split), config)
    seconds = (time.monotonic() - started) / len(states)
    return [
        (state.head, _fit(state, each, seconds)) for state, each in zip(states, said, strict=True)
    ]


def _fit(state: FitState, said: Said, seconds: float) -> Fit:
    num_epochs = len(state.losses) if state.best is None else state.best[0]
    return Fit(
        said.probs,
        state.losses,
        sum(p.numel() for p in state.head.parameters()),
        seconds,
        curve=state.curve,
        epochs=num_epochs,
        map_means=said.map_means,
    )


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
