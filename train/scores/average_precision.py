"""Mean average precision of videos that may have several classes, and how far chance moves it.

Average precision is non-interpolated, Σ_k precision@k · rel_k / positives, as the code of Sharma et
al. (2015) has it for Hollywood2; equal probabilities count as one step, as in scikit-learn.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.metrics import average_precision_score

RESAMPLED_VALUES = 2**21  # of one array while resampling


def average_precisions(
    probs: Float[np.ndarray, "n classes"], table: Bool[np.ndarray, "n classes"]
) -> list[float | None]:
    """Return the average precision of each class; None for one that no video has."""
    return [
        float(average_precision_score(truth, scores)) if truth.any() else None
        for truth, scores in zip(table.T, probs.T, strict=True)
    ]


def bootstrap_precisions(
    probs: Float[np.ndarray, "seeds n classes"],
    table: Bool[np.ndarray, "n classes"],
    groups: np.ndarray,
    *,
    num_resamples: int = 1000,
) -> Float[np.ndarray, " resamples"]:
    """Return the mean average precision, its mean over seeds, of videos drawn anew by group.

    Videos of a group are alike, so whole groups are drawn, with replacement; a draw in which a
    class does not occur averages over those that do, and one without any class is left out. The
    draws depend on groups and labels alone, as those of `train.scores.metrics.bootstrap_scores` do.
    """
    blocks = [
        np.mean([_mean_average_precisions(of_seed, table, drawn) for of_seed in probs], axis=0)
        for drawn in _draws(groups, num_resamples)
    ]
    scores = np.concatenate(blocks)
    kept: np.ndarray = scores[~np.isnan(scores)]
    return kept


def _draws(groups: np.ndarray, num_resamples: int) -> Iterator[Int[np.ndarray, "draws n"]]:
    """Yield how often each video is drawn, for as many draws at once as are few enough values."""
    rng = np.random.default_rng(0)
    names, members = np.unique(groups, return_inverse=True)
    at_once = max(1, RESAMPLED_VALUES // len(groups))
    for start in range(0, num_resamples, at_once):
        num_draws = min(at_once, num_resamples - start)
        drawn = rng.integers(len(names), size=(num_draws, len(names)))
        yield np.stack([np.bincount(row, minlength=len(names)) for row in drawn])[:, members]


def _mean_average_precisions(
    probs: Float[np.ndarray, "n classes"],
    table: Bool[np.ndarray, "n classes"],
    drawn: Int[np.ndarray, "draws n"],
) -> Float[np.ndarray, " draws"]:
    """Return the mean over the classes that a draw has of their precision; nan where it has none.

    Summed class by class, since a hundred classes of a thousand draws would be much at once.
    """
    total, num_present = np.zeros(len(drawn)), np.zeros(len(drawn))
    for scores, truth in zip(probs.T, table.T, strict=True):
        precision = resampled_precision(scores, truth, drawn)
        is_present = ~np.isnan(precision)
        total += np.where(is_present, precision, 0)
        num_present += is_present
    return np.where(num_present > 0, total, np.nan) / np.maximum(num_present, 1)


def resampled_precision(
    scores: Float[np.ndarray, " n"],
    truth: Bool[np.ndarray, " n"],
    drawn: Int[np.ndarray, "draws n"],
) -> Float[np.ndarray, " draws"]:
    """Return the average precision of one class in every draw; nan where no video has it."""
    order = np.argsort(-scores, kind="stable")
    # A step ends where the next score is lower.
    ends = np.flatnonzero(np.append(np.diff(scores[order]) < 0, True))
    found = drawn[:, order].cumsum(1)[:, ends]
    right = (drawn * truth)[:, order].cumsum(1)[:, ends]
    newly = np.diff(right, axis=1, prepend=0)
    num_positives = right[:, -1]
    summed = (newly * right / np.maximum(found, 1)).sum(1)
    return np.where(num_positives > 0, summed / np.maximum(num_positives, 1), np.nan)
