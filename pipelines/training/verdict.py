"""What a head says of one video, in words: a class, or every class that it is said to show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features_store.labels import join_label
from train.fitting.tasks import Task


def predicted_label(
    probs: np.ndarray, classes: Sequence[str], task: Task, *, thresholds: Sequence[float] = ()
) -> str:
    """Return the label that a manifest would have for the predicted classes."""
    return join_label(classes[i] for i in task.predicted(probs, thresholds))


def verdict(
    probs: np.ndarray, classes: Sequence[str], task: Task, *, thresholds: Sequence[float] = ()
) -> str:
    """Return the predicted classes with their probabilities, the likeliest first.

    >>> from train.fitting.tasks import MULTI_LABEL
    >>> verdict(np.array([0.6, 0.9, 0.1]), ["sit", "talk", "run"], MULTI_LABEL)
    'talk (probability 0.90), sit (probability 0.60)'
    >>> verdict(np.array([0.3, 0.2]), ["sit", "talk"], MULTI_LABEL)
    'none of the classes (likeliest: sit, probability 0.30)'
    """
    found = sorted(task.predicted(probs, thresholds), key=lambda i: -probs[i])
    if not found:
        likeliest = int(probs.argmax())
        said = f"{classes[likeliest]}, probability {probs[likeliest]:.2f}"
        return f"none of the classes (likeliest: {said})"
    return ", ".join(f"{classes[i]} (probability {probs[i]:.2f})" for i in found)
