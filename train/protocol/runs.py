"""From a store to honest numbers: choose on validation videos, fit on all but test, test once."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from features_store.errors import UsageError
from train.data.clips import Clips
from train.data.labels import Labels, missing_classes
from train.fitting.condensed import condensed_for
from train.fitting.config import TrainConfig
from train.fitting.loop import Candidate, candidates, fit, predict
from train.fitting.seeding import seeded
from train.fitting.tasks import task_of
from train.heads import Head, HeadChoice, head_class
from train.protocol.splits import Split

logger = logging.getLogger("cubereel")


@dataclass(frozen=True)
class Labelled:
    """Videos with what is said about them.

    Attributes:
        labels: of `classes`, as the task that the configuration says has them.
        groups: no group is on two sides of a split.
    """

    clips: Clips
    labels: Labels
    groups: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """What validation chose, and the scores it saw: of validation videos, never of test."""

    candidate: Candidate
    validation_loss: float
    validation_score: float

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better: by the metric of the task, then by loss."""
        return self.validation_score, -self.validation_loss


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


MakeFit = Callable[[], tuple[Head, Fit]]


@runtime_checkable
class FitKeeper(Protocol):
    """Gives a fit that was made before, or makes and keeps it: what makes a run resumable."""

    def validation(self, name: str, make: MakeFit) -> Fit:
        """Return a fit by which a candidate is judged; `name` is unique within a head's run."""

    def test(self, fold: int, seed: int, candidate: Candidate, make: MakeFit) -> Fit:
        """Return a fit that is tested, and whose head is kept too."""


def run_folds(
    choice: HeadChoice,
    data: Labelled,
    splits: Sequence[Split],
    *,
    config: TrainConfig,
    num_seeds: int,
    keeper: FitKeeper,
) -> list[FoldResult]:
    """Select, fit and test on every split with every seed; what `keeper` has is not done again."""

    @cache
    def condensed() -> Labelled:
        head = choice.build(data.clips, len(data.classes))
        with torch.no_grad():
            clips = condensed_for(data.clips, head, batch_size=config.batch_size)
        return replace(data, clips=clips)

    def fit_and_predict(
        train: np.ndarray, asked: np.ndarray, candidate: Candidate, seed: int
    ) -> tuple[Head, Fit]:
        return _fit_and_predict(
            choice, condensed(), train, asked, candidate=candidate, config=config, seed=seed
        )

    results = []
    for fold, split in enumerate(splits):
        of_fold = partial(_validate, keeper, f"fold{fold}", fit_and_predict)
        selection = _select(choice, data, split, config=config, validate=of_fold)
        for seed in range(num_seeds):
            candidate = selection.candidate
            make = partial(fit_and_predict, split.fitting, split.test, candidate, seed)
            kept = keeper.test(fold, seed, candidate, make)
            if not np.isfinite(kept.probs).all():
                raise UsageError(
                    f"{choice.label} diverged in fold {fold}, seed {seed}, at learning rate "
                    f"{candidate.learning_rate:g}; give smaller `learning_rates`"
                )
            results.append(FoldResult(fold, seed, selection, kept))
    return results


def _validate(
    keeper: FitKeeper,
    fold: str,
    fit_and_predict: Callable[[np.ndarray, np.ndarray, Candidate, int], tuple[Head, Fit]],
    inner: int,
    train: np.ndarray,
    validation: np.ndarray,
    candidate: Candidate,
) -> Fit:
    """Return the fit of one candidate on one inner split, with seed 0."""
    name = f"{fold}-inner{inner}-{candidate.name}"
    return keeper.validation(name, partial(fit_and_predict, train, validation, candidate, 0))


def _select(
    choice: HeadChoice,
    data: Labelled,
    split: Split,
    *,
    config: TrainConfig,
    validate: Callable[[int, np.ndarray, np.ndarray, Candidate], Fit],
) -> Selection:
    """Fit every candidate on the inner train videos; return the best on the validation videos.

    The best has the highest balanced accuracy (mean average precision where videos may have several
    classes), which is what will be reported; ties, which are common among few videos, go to the
    lower loss. One that diverged comes last.
    """
    task, selections = task_of(config), []
    for candidate in candidates(head_class(choice.name), config):
        scores, losses = [], []
        for inner, (train, validation) in enumerate(split.inner):
            probs = validate(inner, train, validation, candidate).probs
            if np.isfinite(probs).all():
                score, loss = task.validate(probs, data.labels[validation])
            else:
                score, loss = -np.inf, np.inf
            scores.append(score)
            losses.append(loss)
        selections.append(Selection(candidate, float(np.mean(losses)), float(np.mean(scores))))
    return max(selections, key=lambda selection: selection.rank)


def _fit_and_predict(
    choice: HeadChoice,
    data: Labelled,
    train: np.ndarray,
    asked: np.ndarray,
    *,
    candidate: Candidate,
    config: TrainConfig,
    seed: int,
) -> tuple[Head, Fit]:
    """Return a head with seeded initial weights, fitted, and what it says of `asked`."""
    started = time.monotonic()
    with seeded(seed):
        head = choice.build(data.clips, len(data.classes))
        losses = fit(
            head,
            data.clips,
            data.labels,
            train=train,
            candidate=candidate,
            config=config,
            seed=seed,
        )
    seconds = time.monotonic() - started
    num_parameters = sum(p.numel() for p in head.parameters())
    probs = predict(head, data.clips, asked, config)
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
