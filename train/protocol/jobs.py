"""Fits of a table as plain data: those that validation chooses by, then those that are tested.

A job says all that its fit depends on, beside the row and the data that its names stand for. So it
can be done in any process, and the jobs that are done are what a run folder holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from train.data.labels import Labels
from train.fitting.loop import Candidate
from train.fitting.tasks import Task
from train.protocol.splits import Split


@dataclass(frozen=True)
class FitJob:
    """One fit of a head.

    Attributes:
        head: label of its row.
        fold: of the table.
        inner: round of validation within the fold; None for a fit that is tested.
    """

    head: str
    fold: int
    inner: int | None
    candidate: Candidate
    seed: int = 0

    @property
    def name(self) -> str:
        """Unique among the fits of a head.

        >>> FitJob("mean-pool", 1, None, Candidate(0.1, 0.0), seed=2).name
        'fold1-seed2-lr0.1-wd0'
        """
        part = f"seed{self.seed}" if self.inner is None else f"inner{self.inner}"
        return f"fold{self.fold}-{part}-{self.candidate.name}"

    def fitted(self, split: Split) -> np.ndarray:
        """Return the positions of the videos that are fitted on."""
        return split.fitting if self.inner is None else split.inner[self.inner][0]

    def asked(self, split: Split) -> np.ndarray:
        """Return the positions of the videos that the head is asked about: others than those."""
        return split.test if self.inner is None else split.inner[self.inner][1]


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


def validation_jobs(
    head: str, candidates: Sequence[Candidate], splits: Sequence[Split]
) -> Iterator[FitJob]:
    """Yield the fits by which validation chooses between candidates, with seed 0."""
    for fold, split in enumerate(splits):
        for candidate in candidates:
            for inner in range(len(split.inner)):
                yield FitJob(head, fold, inner, candidate)


def test_jobs(head: str, selections: Sequence[Selection], *, num_seeds: int) -> Iterator[FitJob]:
    """Yield the fits that are tested, of what validation chose in each fold."""
    for fold, selection in enumerate(selections):
        for seed in range(num_seeds):
            yield FitJob(head, fold, None, selection.candidate, seed)


def verdict_thresholds(
    head: str,
    fold: int,
    candidate: Candidate,
    split: Split,
    *,
    labels: Labels,
    task: Task,
    probs_of: Callable[[FitJob], np.ndarray],
) -> tuple[float, ...]:
    """Return what `Task.predicted` takes for a fold, by its validation videos, never by test.

    Args:
        candidate: that validation chose.
    """
    jobs = [FitJob(head, fold, inner, candidate) for inner in range(len(split.inner))]
    probs = np.concatenate([probs_of(job) for job in jobs])
    return task.thresholds(probs, labels[np.concatenate([job.asked(split) for job in jobs])])


def select(
    head: str,
    candidates: Sequence[Candidate],
    splits: Sequence[Split],
    *,
    labels: Labels,
    task: Task,
    probs_of: Callable[[FitJob], np.ndarray],
) -> list[Selection]:
    """Return the best candidate of each fold, by its validation videos.

    The best has the highest balanced accuracy (mean average precision where videos may have several
    classes), which is what will be reported; ties, which are common among few videos, go to the
    lower loss. One that diverged comes last.

    Args:
        probs_of: what the head said of a job's videos.
    """
    found: dict[tuple[int, Candidate], list[tuple[float, float]]] = {}
    for job in validation_jobs(head, candidates, splits):
        probs = probs_of(job)
        is_finite = np.isfinite(probs).all()
        truth = labels[job.asked(splits[job.fold])]
        scored = task.validate(probs, truth) if is_finite else (-np.inf, np.inf)
        found.setdefault((job.fold, job.candidate), []).append(scored)
    selections: list[list[Selection]] = [[] for _ in splits]
    for (fold, candidate), rounds in found.items():
        scores, losses = zip(*rounds, strict=True)
        mean_loss, mean_score = float(np.mean(losses)), float(np.mean(scores))
        selections[fold].append(Selection(candidate, mean_loss, mean_score))
    return [max(of_fold, key=lambda selection: selection.rank) for of_fold in selections]
