"""From fits to a table: pooled test predictions, their errors, and what validation chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from train.fitting.tasks import Task
from train.protocol.runs import FoldResult, Labelled
from train.protocol.splits import Split
from train.scores.metrics import Metrics, Scores, paired_interval, score


@dataclass(frozen=True, kw_only=True)
class HeadRow(Scores):
    """One head in a table; scores of pooled test predictions, mean over seeds.

    Attributes:
        settings: in which its training differs from what the whole run was told.
        standard_error, validation_score: of the report's metric.
        difference: in the report's metric, to the first head of the table.
        interval: of that difference, 95 %, by a bootstrap over groups that is paired.
        seconds: that all its fits took, those for validation included.
        seeds: all metrics of each seed.
        selections: what validation chose in each fold.
    """

    head: str
    layers: list[str]
    settings: dict[str, Any]
    standard_error: float
    difference: float
    interval: tuple[float, float]
    validation_score: float
    num_parameters: int
    seconds: float
    seeds: list[dict[str, Any]]
    selections: list[dict[str, Any]]


@dataclass(frozen=True)
class Pooled:
    """Test predictions of one head, all folds together.

    Attributes:
        metric: the field of `metrics` that heads are compared by.
        metrics: of each seed.
        resampled: the metric, its mean over seeds, in 1,000 draws of groups.
    """

    metric: str
    metrics: list[Metrics]
    resampled: np.ndarray

    def mean(self, name: str) -> Any:
        """Return the mean of a score over seeds; None where it does not apply."""
        of_seeds = [getattr(m, name) for m in self.metrics]
        return None if None in of_seeds else float(np.mean(of_seeds))

    @property
    def score(self) -> float:
        """Mean of the metric over seeds."""
        return float(self.mean(self.metric))

    @property
    def standard_error(self) -> float:
        """Of the metric, over groups."""
        return float(np.std(self.resampled, ddof=1))


def pool_tests(
    results: Sequence[FoldResult], data: Labelled, splits: Sequence[Split], *, task: Task
) -> Pooled:
    """Score what one head said of every test video, seed by seed."""
    probs_of = {(r.seed, r.fold): r.probs for r in results}
    seeds, folds = ({r.seed for r in results}, sorted({r.fold for r in results}))
    videos = np.concatenate([splits[fold].test for fold in folds])
    labels = data.labels[videos]
    pooled = [np.concatenate([probs_of[seed, fold] for fold in folds]) for seed in sorted(seeds)]
    resampled = task.resampled(np.stack(pooled), labels, data.groups[videos])
    return Pooled(task.metric, [score(probs, labels) for probs in pooled], resampled)


def head_row(
    label: str,
    results: Sequence[FoldResult],
    pooled: Pooled,
    *,
    reference: Pooled,
    layers: Sequence[str],
    settings: Mapping[str, Any],
    seconds: float,
) -> HeadRow:
    """Return a head's row; `reference` is the first head of the table, which may be this one."""
    selections = {r.fold: r.selection for r in results}
    return HeadRow(
        head=label,
        layers=list(layers),
        settings=dict(settings),
        standard_error=pooled.standard_error,
        difference=pooled.score - reference.score,
        interval=paired_interval(pooled.resampled, reference.resampled),
        validation_score=float(np.mean([s.validation_score for s in selections.values()])),
        num_parameters=results[0].fit.num_parameters,
        seconds=round(seconds, 1),
        seeds=[asdict(m) for m in pooled.metrics],
        selections=[asdict(s) for _, s in sorted(selections.items())],
        **{name: pooled.mean(name) for name in Scores.names()},
    )


def chosen_by_validation(
    results: Mapping[str, Sequence[FoldResult]],
    data: Labelled,
    splits: Sequence[Split],
    *,
    task: Task,
    reference: Pooled,
) -> dict[str, Any]:
    """Score the head that each fold's own validation videos choose; no test video is asked.

    Of the seeds that all heads have, since each seed is scored over all folds.
    """
    seeds = set.intersection(*({r.seed for r in rs} for rs in results.values()))
    heads, chosen = [], []
    for fold in range(len(splits)):
        by_head = {
            label: [r for r in rs if r.fold == fold and r.seed in seeds]
            for label, rs in results.items()
        }
        best = max(by_head, key=lambda label: by_head[label][0].selection.rank)
        heads.append(best)
        chosen += by_head[best]
    pooled = pool_tests(chosen, data, splits, task=task)
    return {
        "head_of_fold": heads,
        pooled.metric: pooled.score,
        "standard_error": pooled.standard_error,
        "difference": pooled.score - reference.score,
        "interval": paired_interval(pooled.resampled, reference.resampled),
    }
