"""What is asked of a video: which class it shows, or for every class whether it shows that.

A task is all that differs between the two: loss, probabilities, score. Everything else takes a
`Task` and asks it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from train.data.labels import Labels
from train.fitting.config import TrainConfig
from train.fitting.losses import (
    clip_probabilities,
    sequence_binary_cross_entropy,
    sequence_cross_entropy,
)
from train.scores.intervals import leave_out_groups
from train.scores.metrics import (
    balanced_accuracy,
    reweighted_accuracies,
    reweighted_precisions,
    score,
)
from train.scores.thresholds import USUAL, matching_thresholds

SMALLEST_PROB = 1e-12  # in a logarithm


class Task(ABC):
    """How heads are fitted and scored.

    Attributes:
        metric: the field of `train.scores.metrics.Metrics` that validation goes by.
        multi_label: whether a video may have several classes, or none.
    """

    metric: ClassVar[str]
    multi_label: ClassVar[bool]

    @abstractmethod
    def encode(self, classes_of: Sequence[Sequence[int]], num_classes: int) -> Labels:
        """Return the labels of videos from the positions of their classes."""

    @abstractmethod
    def class_weights(self, labels: Labels, num_classes: int) -> Tensor:
        """Return the weights by which every class counts the same, as `loss` takes them."""

    @abstractmethod
    def loss(
        self,
        logits: Float[Tensor, "b steps classes"],
        labels: Tensor,
        mask: Bool[Tensor, "b t"],
        weights: Tensor | None,
    ) -> Float[Tensor, ""]:
        """Return what a head is fitted to, without its regularisers."""

    @abstractmethod
    def validate(
        self, probs: Float[np.ndarray, "n classes"], labels: Labels
    ) -> tuple[float, float]:
        """Return the metric, of which more is better, and a loss that decides between equals."""

    @abstractmethod
    def left_out(
        self, probs: Float[np.ndarray, "seeds n classes"], labels: Labels, groups: np.ndarray
    ) -> Float[np.ndarray, " parts"]:
        """Return the metric, its mean over seeds, without the videos of each group in turn."""

    @abstractmethod
    def thresholds(
        self, probs: Float[np.ndarray, "n classes"], labels: Labels
    ) -> tuple[float, ...]:
        """Return what `predicted` takes, from validation videos; empty where it takes nothing."""

    @abstractmethod
    def predicted(
        self, probs: Float[np.ndarray, " classes"], thresholds: Sequence[float] = ()
    ) -> list[int]:
        """Return the classes that a video is said to show."""

    def clip_probabilities(
        self,
        logits: Float[Tensor, "b steps classes"],
        mask: Bool[Tensor, "b t"],
        *,
        last_n: int | None,
    ) -> Float[Tensor, "b classes"]:
        """Return the probabilities of clips, averaged over their steps."""
        return clip_probabilities(logits, mask, last_n=last_n, multi_label=self.multi_label)


class SingleLabel(Task):
    """Every video shows one of the classes: cross-entropy, balanced accuracy."""

    metric = "balanced_accuracy"
    multi_label = False

    def encode(self, classes_of: Sequence[Sequence[int]], num_classes: int) -> Labels:
        """Return class numbers (n,)."""
        return np.array([position for (position,) in classes_of], np.int64)

    def class_weights(
        self, labels: Int[np.ndarray, " n"], num_classes: int
    ) -> Float[Tensor, " classes"]:
        """Return weights by which every class that occurs counts the same; 0 for the others."""
        counts = np.bincount(labels, minlength=num_classes)
        weights = np.where(counts > 0, 1 / np.maximum(counts, 1), 0)
        return torch.from_numpy(weights * len(labels) / (counts > 0).sum()).float()

    def loss(
        self,
        logits: Float[Tensor, "b steps classes"],
        labels: Int[Tensor, " b"],
        mask: Bool[Tensor, "b t"],
        weights: Float[Tensor, " classes"] | None,
    ) -> Float[Tensor, ""]:
        """Return `sequence_cross_entropy`."""
        return sequence_cross_entropy(logits, labels, mask, class_weights=weights)

    def validate(
        self, probs: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
    ) -> tuple[float, float]:
        """Return the balanced accuracy, and −log p of the true class, classes counting the same."""
        of_truth = -np.log(np.maximum(probs[np.arange(len(labels)), labels], SMALLEST_PROB))
        loss = float(np.mean([of_truth[labels == c].mean() for c in np.unique(labels)]))
        return balanced_accuracy(probs.argmax(1), labels), loss

    def left_out(
        self,
        probs: Float[np.ndarray, "seeds n classes"],
        labels: Int[np.ndarray, " n"],
        groups: np.ndarray,
    ) -> Float[np.ndarray, " parts"]:
        """Return the balanced accuracy of every part."""
        return leave_out_groups(reweighted_accuracies, probs.argmax(2), labels, groups)

    def thresholds(
        self, probs: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
    ) -> tuple[float, ...]:
        """Return none: the likeliest class needs no threshold."""
        return ()

    def predicted(
        self, probs: Float[np.ndarray, " classes"], thresholds: Sequence[float] = ()
    ) -> list[int]:
        """Return the likeliest class."""
        return [int(probs.argmax())]


class MultiLabel(Task):
    """A video shows any number of the classes: binary cross-entropies, mean average precision."""

    metric = "mean_average_precision"
    multi_label = True

    def encode(self, classes_of: Sequence[Sequence[int]], num_classes: int) -> Labels:
        """Return a table (n, classes)."""
        table = np.zeros((len(classes_of), num_classes), bool)
        for row, positions in zip(table, classes_of, strict=True):
            row[list(positions)] = True
        return table

    def class_weights(
        self, labels: Bool[np.ndarray, "n classes"], num_classes: int
    ) -> Float[Tensor, "2 classes"]:
        """Return weights by which the videos that have a class count as much as those without it.

        It is the weighting of a single label, for the two answers to each question; where all
        videos give the same answer they weigh 1.
        """
        counts = np.stack([(~labels).sum(0), labels.sum(0)])
        weights = len(labels) / np.maximum(counts, 1) / (counts > 0).sum(0)
        return torch.from_numpy(np.where(counts > 0, weights, 0)).float()

    def loss(
        self,
        logits: Float[Tensor, "b steps classes"],
        labels: Bool[Tensor, "b classes"],
        mask: Bool[Tensor, "b t"],
        weights: Float[Tensor, "2 classes"] | None,
    ) -> Float[Tensor, ""]:
        """Return `sequence_binary_cross_entropy`."""
        return sequence_binary_cross_entropy(logits, labels, mask, answer_weights=weights)

    def validate(
        self, probs: Float[np.ndarray, "n classes"], labels: Bool[np.ndarray, "n classes"]
    ) -> tuple[float, float]:
        """Return the mean average precision, and the sum of binary cross-entropies of a video."""
        of_truth = -np.log(np.maximum(np.where(labels, probs, 1 - probs), SMALLEST_PROB))
        return score(probs, labels).mean_average_precision, float(of_truth.sum(1).mean())

    def left_out(
        self,
        probs: Float[np.ndarray, "seeds n classes"],
        labels: Bool[np.ndarray, "n classes"],
        groups: np.ndarray,
    ) -> Float[np.ndarray, " parts"]:
        """Return the mean average precision of every part that has a class."""
        return leave_out_groups(reweighted_precisions, probs, labels, groups)

    def thresholds(
        self, probs: Float[np.ndarray, "n classes"], labels: Bool[np.ndarray, "n classes"]
    ) -> tuple[float, ...]:
        """Return `matching_thresholds`."""
        return matching_thresholds(probs, labels)

    def predicted(
        self, probs: Float[np.ndarray, " classes"], thresholds: Sequence[float] = ()
    ) -> list[int]:
        """Return every class whose probability reaches its threshold; 0.5 where none is given."""
        return np.flatnonzero(probs >= (np.array(thresholds) if thresholds else USUAL)).tolist()


SINGLE_LABEL, MULTI_LABEL = SingleLabel(), MultiLabel()


def task_of(config: TrainConfig) -> Task:
    """Return the task that a configuration says.

    Raises:
        UsageError: votes of clips, where a clip has no one class to vote for.
    """
    config.check()
    return MULTI_LABEL if config.multi_label else SINGLE_LABEL
