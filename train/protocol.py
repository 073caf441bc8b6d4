"""From a store to honest numbers: choose on validation videos, fit on all but test, test once."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from train.clips import Clips
from train.config import TrainConfig
from train.fit import Candidate, balanced_log_loss, candidates, fit, predict
from train.heads import Head, build_head
from train.heads.registry import head_class
from train.metrics import balanced_accuracy
from train.seeding import seeded
from train.splits import Split, missing_classes

logger = logging.getLogger("cubereel")


@dataclass(frozen=True)
class HeadChoice:
    """A head by name with its options, as in ``soft-attention:attention=content,layers=2``."""

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str, common: Sequence[tuple[str, str]] = ()) -> "HeadChoice":
        """Read ``NAME[:option=value,…]``; `common` options come first and may be overridden.

        >>> HeadChoice.parse("mean-pool:diffs=cubes").label
        'mean-pool:diffs=cubes'
        """
        name, _, rest = text.partition(":")
        own = [pair.partition("=")[::2] for pair in rest.split(",") if pair]
        return cls(name, tuple({**dict(common), **dict(own)}.items()))

    @property
    def label(self) -> str:
        """The text that it is written as."""
        return self.name + "".join(
            f"{',' if i else ':'}{k}={v}" for i, (k, v) in enumerate(self.options)
        )

    def build(self, clips: Clips, num_classes: int) -> Head:
        """Return a new head for these clips."""
        head = build_head(
            self.name, shape=clips.input_shape, num_classes=num_classes, **dict(self.options)
        )
        return head.to(clips.device)


@dataclass(frozen=True)
class Labelled:
    """Videos with what is said about them; `labels` are positions in `classes`."""

    clips: Clips
    labels: Int[np.ndarray, " n"]
    groups: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """What validation chose, and the scores it saw: of validation videos, never of test."""

    candidate: Candidate
    validation_loss: float
    validation_balanced_accuracy: float

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better: by balanced accuracy, then by loss."""
        return self.validation_balanced_accuracy, -self.validation_loss


@dataclass(frozen=True)
class FoldResult:
    """One fold and seed: the fitted head and its probabilities of the test videos."""

    fold: int
    seed: int
    selection: Selection
    head: Head
    train_losses: list[float]
    probs: Float[np.ndarray, "n classes"]


def select(choice: HeadChoice, data: Labelled, split: Split, *, config: TrainConfig) -> Selection:
    """Fit every candidate on the inner train videos; return the best on the validation videos.

    The best has the highest balanced accuracy, which is what will be reported; ties, which are
    common among few videos, go to the lower loss.
    """
    best: Selection | None = None
    for candidate in candidates(head_class(choice.name), config):
        losses, accuracies = [], []
        for train, validation in split.inner:
            head = fit_new(choice, data, train, candidate=candidate, config=config, seed=0)[0]
            probs = predict(head, data.clips, validation, config)
            truth = data.labels[validation]
            losses.append(balanced_log_loss(probs, truth))
            accuracies.append(balanced_accuracy(probs.argmax(1), truth))
        selection = Selection(candidate, float(np.mean(losses)), float(np.mean(accuracies)))
        if best is None or selection.rank > best.rank:
            best = selection
    assert best is not None
    return best


def fit_new(
    choice: HeadChoice,
    data: Labelled,
    train: np.ndarray,
    *,
    candidate: Candidate,
    config: TrainConfig,
    seed: int,
) -> tuple[Head, list[float]]:
    """Return a head with seeded initial weights, fitted, and the loss of each epoch."""
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
    return head, losses


def run_folds(
    choice: HeadChoice,
    data: Labelled,
    splits: Sequence[Split],
    *,
    config: TrainConfig,
    num_seeds: int,
    on_fold: Callable[[FoldResult], None],
) -> list[FoldResult]:
    """Select, fit and test on every split with every seed."""
    head = choice.build(data.clips, len(data.classes))
    with torch.no_grad():
        clips = data.clips.condensed_for(head, batch_size=config.batch_size)
    data = replace(data, clips=clips)
    results = []
    for fold, split in enumerate(splits):
        selection = select(choice, data, split, config=config)
        for seed in range(num_seeds):
            head, losses = fit_new(
                choice, data, split.fitting,
                candidate=selection.candidate, config=config, seed=seed,
            )  # fmt: skip
            probs = predict(head, data.clips, split.test, config)
            result = FoldResult(fold, seed, selection, head, losses, probs)
            on_fold(result)
            results.append(result)
    return results


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
