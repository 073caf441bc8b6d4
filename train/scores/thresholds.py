"""From which probability on a video is said to show a class, where it may show several.

Weights by which a rare class counts as much as its absence make heads say it far too often at 0.5.
"""

import numpy as np
from jaxtyping import Bool, Float

USUAL = 0.5


def matching_thresholds(
    probs: Float[np.ndarray, "n classes"], table: Bool[np.ndarray, "n classes"]
) -> tuple[float, ...]:
    """Return for each class the threshold at which as many videos are said to show it as do.

    0.5 where that is one; else midway between the last probability that is to count and the next.
    So a class that none of these videos shows is said only of one that is nearer to 1 than to the
    highest of them. Probabilities of a head that diverged say nothing: 0.5.

    >>> probs = np.array([[0.9, 0.9], [0.8, 0.2], [0.6, 0.2], [0.3, 0.1]])
    >>> table = np.array([[1, 1], [0, 0], [0, 0], [0, 0]], bool)
    >>> [round(threshold, 2) for threshold in matching_thresholds(probs, table)]
    [0.85, 0.5]
    """
    if not np.isfinite(probs).all():
        return (USUAL,) * len(probs.T)
    return tuple(
        _matching_threshold(of_class, truth)
        for of_class, truth in zip(probs.T, table.T, strict=True)
    )


def _matching_threshold(probs: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float:
    count = np.count_nonzero(truth)
    if np.count_nonzero(probs >= USUAL) == count:
        return USUAL
    ranked = np.concatenate([[1.0], np.sort(probs)[::-1], [0.0]])
    return float(ranked[count : count + 2].mean())
