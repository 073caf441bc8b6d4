"""From fits to a table: pooled test predictions, their errors, and what validation chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from train.data.labels import Labels
from train.fitting.tasks import Task
from train.protocol.runs import FoldResult, Labelled
from train.protocol.splits import Split
from train.scores.intervals import Interval, bands, interval, standard_error
from train.scores.metrics import Metrics, Scores, score


@dataclass(frozen=True, kw_only=True)
class HeadRow(Scores):
    """One head in a table; scores of pooled test predictions, mean over seeds.

    Attributes:
        settings: in which its training differs from what the whole run was told.
        standard_error: of the report's metric, over groups; None where there is one group.
        seeds_deviation: of the report's metric, over seeds; None where there is one seed.
        difference: in the report's metric, to the first head of the table.
        interval: of that difference, 95 %, over groups and paired; None as the standard error.
        band: the same, made wide enough to hold for all heads of the table at once.
        validation_score: of the report's metric, of what validation chose: the largest of as many
            as there were candidates, hence too high.
        seconds: that all its fits took, those for validation included.
        seeds: all metrics of each seed.
        selections: what validation chose in each fold.
        map_means: of the maps that the head reports, over the frames of all test videos.
    """

    head: str
    layers: list[str]
    settings: dict[str, Any]
    standard_error: float | None
    seeds_deviation: float | None
    difference: float
    interval: Interval | None
    band: Interval | None
    validation_score: float
    num_parameters: int
    seconds: float
    seeds: list[dict[str, Any]]
    selections: list[dict[str, Any]]
    map_means: dict[str, list[float]]


@dataclass(frozen=True)
class Pooled:
    """Test predictions of one head, all folds together.

    Attributes:
        metric: the field of `metrics` that heads are compared by.
        metrics: of each seed.
        left_out: the metric, its mean over seeds, without each group in turn.
    """

    metric: str
    metrics: list[Metrics]
    left_out: np.ndarray

    def mean(self, name: str) -> Any:
        """Return the mean of a score over seeds; None where it does not apply."""
        of_seeds = [getattr(m, name) for m in self.metrics]
        return None if None in of_seeds else float(np.mean(of_seeds))

    @property
    def score(self) -> float:
        """Mean of the metric over seeds."""
        return float(self.mean(self.metric))

    @property
    def standard_error(self) -> float | None:
        """Of the metric, over groups; None where there is one group."""
        return standard_error(self.left_out)

    @property
    def seeds_deviation(self) -> float | None:
        """Of the metric, over seeds; None where there is one seed."""
        of_seeds = [getattr(m, self.metric) for m in self.metrics]
        return float(np.std(of_seeds, ddof=1)) if len(of_seeds) > 1 else None


@dataclass(frozen=True)
class Difference:
    """Of two heads on the same videos; intervals are None where there is one group.

    Attributes:
        interval: 95 %, of this difference alone.
        band: 95 %, of all differences that are looked at together.
    """

    difference: float
    interval: Interval | None
    band: Interval | None


def differences(pairs: Sequence[tuple[Pooled, Pooled]]) -> list[Difference]:
    """Return the difference of each pair, the first less the second; all are of the same videos."""
    values = [one.score - other.score for one, other in pairs]
    left_out = np.stack([one.left_out - other.left_out for one, other in pairs])
    intervals = [interval(*each) for each in zip(values, left_out, strict=True)]
    found = zip(values, intervals, bands(values, left_out), strict=True)
    return [Difference(*each) for each in found]


def pool_tests(
    results: Sequence[FoldResult], data: Labelled, splits: Sequence[Split], *, task: Task
) -> Pooled:
    """Score what one head said of every test video, seed by seed."""
    probs_of = {(r.seed, r.fold): r.probs for r in results}
    seeds, folds = ({r.seed for r in results}, sorted({r.fold for r in results}))
    videos = np.concatenate([splits[fold].test for fold in folds])
    labels = data.labels[videos]
    pooled = [np.concatenate([probs_of[seed, fold] for fold in folds]) for seed in sorted(seeds)]
    return pool(np.stack(pooled), labels, data.groups[videos], task=task)


def pool(
    probs: Float[np.ndarray, "seeds n classes"], labels: Labels, groups: np.ndarray, *, task: Task
) -> Pooled:
    """Score predictions of all tested videos."""
    metrics = [score(of_seed, labels) for of_seed in probs]
    return Pooled(task.metric, metrics, task.left_out(probs, labels, groups))


def head_row(
    label: str,
    results: Sequence[FoldResult],
    pooled: Pooled,
    *,
    difference: Difference,
    layers: Sequence[str],
    settings: Mapping[str, Any],
    seconds: float,
) -> HeadRow:
    """Return a head's row; its difference is to the first head of the table, which may be it."""
    selections = {r.fold: r.selection for r in results}
    return HeadRow(
        head=label,
        layers=list(layers),
        settings=dict(settings),
        standard_error=pooled.standard_error,
        seeds_deviation=pooled.seeds_deviation,
        **asdict(difference),
        validation_score=float(np.mean([s.validation_score for s in selections.values()])),
        num_parameters=results[0].fit.num_parameters,
        seconds=round(seconds, 1),
        seeds=[asdict(m) for m in pooled.metrics],
        selections=[asdict(s) for _, s in sorted(selections.items())],
        map_means=_mean_maps([r.fit.map_means for r in results]),
        **{name: pooled.mean(name) for name in Scores.names()},
    )


def _mean_maps(fits: Sequence[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    return {name: np.mean([fit[name] for fit in fits], axis=0).tolist() for name in fits[0]}


def chosen_by_validation(
    results: Mapping[str, Sequence[FoldResult]],
    data: Labelled,
    splits: Sequence[Split],
    *,
    task: Task,
    reference: Pooled,
    num_heads: int = 1,
) -> dict[str, Any]:
    """Score the heads that each fold's own validation videos like best; no test video is asked.

    Of several the mean of their probabilities counts. Of the seeds that all heads have, since each
    seed is scored over all folds.
    """
    seeds = set.intersection(*({r.seed for r in rs} for rs in results.values()))
    names, chosen = [], []
    for fold in range(len(splits)):
        of_fold = {
            label: {r.seed: r for r in rs if r.fold == fold and r.seed in seeds}
            for label, rs in results.items()
        }
        ranks = {label: next(iter(rs.values())).selection.rank for label, rs in of_fold.items()}
        best = sorted(of_fold, key=lambda label: ranks[label], reverse=True)[:num_heads]
        names.append(" + ".join(best))
        chosen += [_mean([of_fold[label][seed] for label in best]) for seed in sorted(seeds)]
    pooled = pool_tests(chosen, data, splits, task=task)
    (difference,) = differences([(pooled, reference)])
    return {
        "head_of_fold": names,
        pooled.metric: pooled.score,
        "standard_error": pooled.standard_error,
        "difference": difference.difference,
        "interval": difference.interval,
    }


def _mean(results: Sequence[FoldResult]) -> FoldResult:
    """Return the first of several heads' results, with the mean of their probabilities."""
    first = results[0]
    probs = np.mean([result.probs for result in results], axis=0)
    return replace(first, fit=replace(first.fit, probs=probs))
