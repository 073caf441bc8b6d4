"""Fits of a table as plain data: those that validation chooses by, then those that are tested.

A job says all that its fit depends on, beside the row and the data that its names stand for. So it
can be done in any process, and the jobs that are done are what a run folder holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from train.data.labels import Labels
from train.fitting.state import Candidate, best_epoch
from train.fitting.tasks import Task
from train.protocol.splits import Split

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class FitJob:
    """One fit of a head.

    Attributes:
        head: label of its row.
        fold: of the table.
        inner: round of validation within the fold; None for a fit that is tested.
        epochs: as many as validation chose, where it does; else None.
    """

    head: str
    fold: int
    inner: int | None
    candidate: Candidate
    seed: int = 0
    epochs: int | None = None

    @property
    def name(self) -> str:
        """Unique among the fits of a head.

        >>> FitJob("mean-pool", 1, None, Candidate(0.1, 0.0), seed=2).name
        'fold1-seed2-lr0.1-wd0'
        """
        part = f"seed{self.seed}" if self.inner is None else f"inner{self.inner}"
        chosen = "" if self.epochs is None else f"-epochs{self.epochs}"
        return f"fold{self.fold}-{part}-{self.candidate.name}{chosen}"

    def fitted(self, split: Split) -> np.ndarray:
        """Return the positions of the videos that are fitted on."""
        return split.fitting if self.inner is None else split.inner[self.inner][0]

    def asked(self, split: Split) -> np.ndarray:
        """Return the positions of the videos that the head is asked about: others than those."""
        return split.test if self.inner is None else split.inner[self.inner][1]


@dataclass(frozen=True)
class FitGroup:
    """Fits of one head that learn from the same clips for as long: each batch is read once."""

    jobs: tuple[FitJob, ...]

    @property
    def first(self) -> FitJob:
        """The first of them; the others have its head, videos, layers and epochs."""
        return self.jobs[0]

    @property
    def name(self) -> str:
        """For a line of a log."""
        more = len(self.jobs) - 1
        return f"{self.first.head} {self.first.name}" + (f" and {more} more" if more else "")


def group_jobs(jobs: Sequence[FitJob], *, most: int) -> list[FitGroup]:
    """Return groups of at most `most` jobs each, in the order of their first jobs."""
    alike: dict[tuple[object, ...], list[FitJob]] = {}
    for job in jobs:
        key = (job.head, job.fold, job.inner, job.epochs, job.candidate.layer)
        alike.setdefault(key, []).append(job)
    groups = []
    for each in alike.values():
        num_groups = -(-len(each) // most)
        parts = np.array_split(np.arange(len(each)), num_groups)
        groups += [FitGroup(tuple(each[i] for i in part)) for part in parts]
    return groups


@dataclass(frozen=True)
class Selection:
    """What validation chose, and the scores it saw: of validation videos, never of test.

    Attributes:
        epochs: how many; None for all that the configuration says.
    """

    candidate: Candidate
    validation_loss: float
    validation_score: float
    epochs: int | None = None

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
            yield FitJob(head, fold, None, selection.candidate, seed, selection.epochs)


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
    chooses_epochs: bool,
    curve_of: Callable[[FitJob], Curve],
) -> list[Selection]:
    """Return the best candidate of each fold, by its validation videos.

    The best has the highest balanced accuracy (mean average precision where videos may have several
    classes), which is what will be reported; ties, which are common among few videos, go to the
    lower loss. One that diverged comes last.

    Args:
        chooses_epochs: take the best number of epochs too, and not all of them.
        curve_of: metric and loss of a job's validation videos after each epoch.
    """
    rounds: dict[tuple[int, Candidate], list[Curve]] = {}
    for job in validation_jobs(head, candidates, splits):
        rounds.setdefault((job.fold, job.candidate), []).append(curve_of(job))
    selections: list[list[Selection]] = [[] for _ in splits]
    for (fold, candidate), curves in rounds.items():
        # Rounds may have ended at different epochs: as many as all of them have.
        means = np.mean([curve[: min(map(len, curves))] for curve in curves], axis=0)
        mean = [(float(score), float(loss)) for score, loss in means]
        epochs = best_epoch(mean) if chooses_epochs else None
        score, loss = mean[-1 if epochs is None else epochs - 1]
        selections[fold].append(Selection(candidate, loss, score, epochs))
    return [max(of_fold, key=lambda selection: selection.rank) for of_fold in selections]
