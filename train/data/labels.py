"""Labels of videos as arrays: class numbers (n,), or which video has which class, (n, classes)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

Labels = Int[np.ndarray, " n"] | Bool[np.ndarray, "n classes"]


def as_table(labels: Labels, num_classes: int) -> Bool[np.ndarray, "n classes"]:
    """Return which video has which class.

    >>> as_table(np.array([1, 0]), 2).tolist()
    [[False, True], [True, False]]
    """
    if labels.ndim == 2:
        return labels
    table: np.ndarray = labels[:, None] == np.arange(num_classes)
    return table


def missing_classes(labels: Labels, positions: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Return the classes of which there is no video among `positions`.

    >>> missing_classes(np.array([0, 1, 0]), np.array([0, 2]), ["walk", "run"])
    ['run']
    """
    counts = as_table(labels[positions], len(classes)).sum(0).tolist()
    return [name for name, count in zip(classes, counts, strict=True) if count == 0]
