"""How far chance moves a score: groups of videos left out in turn, intervals by Student's t.

Videos of a group are alike, so what chance drew is groups. A percentile bootstrap over few of them
gives intervals that are too narrow (`benchmarks/interval_coverage.py`): the s.e. here is that of
the jackknife, and the quantiles are those of t with one degree of freedom less than there are
groups. Fits are what they are: how another training would differ is in no interval.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Shaped
from scipy.stats import t as student

from train.data.labels import Labels

Interval = tuple[float, float]
CONFIDENCE = 0.95
MAX_PARTS = 1000
REWEIGHTED_VALUES = 2**21  # of one array while groups are left out
BAND_DRAWS = 10_000


def leave_out_groups(
    metric: Callable[[np.ndarray, np.ndarray, np.ndarray], Float[np.ndarray, " parts"]],
    outputs: Shaped[np.ndarray, "seeds n *classes"],
    labels: Labels,
    groups: np.ndarray,
) -> Float[np.ndarray, " parts"]:
    """Return a metric, its mean over seeds, of all videos but those of each group in turn.

    More than 1,000 groups are left out in 1,000 bundles. Where a class is left out with a group,
    the mean is over the others; where no class remains, that part is missing. Which parts there are
    depends on groups and labels alone: those of two heads are the same, and their differences are
    paired.

    Args:
        metric: takes outputs, labels and how often each video counts in each part (parts, n), as
            many at once as are few enough values.
        outputs: what the metric takes: predictions, or probabilities.
    """
    names, members = np.unique(groups, return_inverse=True)
    if len(names) > MAX_PARTS:
        members = (np.random.default_rng(0).permutation(len(names)) % MAX_PARTS)[members]
    num_parts = min(len(names), MAX_PARTS)
    at_once = max(1, REWEIGHTED_VALUES // len(groups))
    blocks = []
    for start in range(0, num_parts if num_parts > 1 else 0, at_once):
        left_out = np.arange(start, min(start + at_once, num_parts))
        blocks.append(metric(outputs, labels, (members != left_out[:, None]).astype(np.int64)))
    scores = np.concatenate([np.zeros(0), *blocks])
    kept: np.ndarray = scores[~np.isnan(scores)]
    return kept


def standard_error(left_out: Float[np.ndarray, " parts"]) -> float | None:
    """Return the jackknife's standard error; None of fewer than two groups.

    Of a mean of equal groups it is the usual one:

    >>> values = np.array([1.0, 2.0, 6.0])
    >>> left_out = (values.sum() - values) / 2
    >>> float(np.round(standard_error(left_out) - values.std(ddof=1) / 3**0.5, 12))
    0.0
    """
    if len(left_out) < 2:
        return None
    return float(np.std(left_out, ddof=1) * (len(left_out) - 1) / np.sqrt(len(left_out)))


def interval(value: float, left_out: Float[np.ndarray, " parts"]) -> Interval | None:
    """Return the 95 % interval of a value, or None where no standard error is.

    Args:
        left_out: the value without each group; of a difference, the difference of both.
    """
    error = standard_error(left_out)
    if error is None:
        return None
    return _around(value, error, _quantile(len(left_out)))


def bands(
    values: Sequence[float], left_out: Float[np.ndarray, "values parts"]
) -> list[Interval | None]:
    """Return intervals that hold all at once in 95 % of tables, where each alone would not.

    The quantile is that of the largest of all |t|, which are correlated as the values are.
    """
    errors = [standard_error(parts) for parts in left_out]
    quantile = _quantile_of_largest(left_out)
    return [
        None if error is None else _around(value, error, quantile)
        for value, error in zip(values, errors, strict=True)
    ]


def _around(value: float, error: float, quantile: float) -> Interval:
    return value - quantile * error, value + quantile * error


def _quantile(num_parts: int) -> float:
    return float(student.ppf((1 + CONFIDENCE) / 2, num_parts - 1))


def _quantile_of_largest(left_out: Float[np.ndarray, "values parts"]) -> float:
    """Return the 95 % quantile of the largest |t| of values; those that never vary have none."""
    num_parts = left_out.shape[1]
    deviations = left_out - left_out.mean(1, keepdims=True) if num_parts > 1 else left_out
    lengths = np.sqrt((deviations**2).sum(1))
    units = deviations[lengths > 0] / lengths[lengths > 0, None]
    if len(units) < 2:
        return _quantile(num_parts) if num_parts > 1 else np.nan
    rng = np.random.default_rng(0)
    normal = rng.multivariate_normal(
        np.zeros(len(units)), units @ units.T, BAND_DRAWS, method="eigh", check_valid="ignore"
    )
    scales = np.sqrt(rng.chisquare(num_parts - 1, BAND_DRAWS) / (num_parts - 1))
    return float(np.quantile(np.abs(normal).max(1) / scales, CONFIDENCE))
