"""How good predictions are: scikit-learn's numbers, and the same of parts of the videos.

What is *reweighted* takes how often each video counts in each of many parts at once.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    recall_score,
)

from features_store.errors import ContractError
from train.data.labels import Labels, as_table

NUM_LIKELIEST = 5


def average_precisions(
    probs: Float[np.ndarray, "n classes"], table: Bool[np.ndarray, "n classes"]
) -> list[float | None]:
    """Return the average precision of each class; None for one that no video has."""
    return [
        float(average_precision_score(truth, scores)) if truth.any() else None
        for truth, scores in zip(table.T, probs.T, strict=True)
    ]


def reweighted_accuracies(
    predictions: Int[np.ndarray, "seeds n"],
    labels: Int[np.ndarray, " n"],
    counts: Int[np.ndarray, "parts n"],
) -> Float[np.ndarray, " parts"]:
    """Return the balanced accuracy of every part, its mean over seeds."""
    table, weights = as_table(labels, int(labels.max()) + 1), counts.astype(float)
    of_class = weights @ table
    right = np.stack([weights @ (table & hits[:, None]) for hits in predictions == labels], axis=1)
    recalls = right / np.maximum(of_class, 1)[:, None]  # 0 of a class that does not occur
    scores: np.ndarray = (recalls.sum(2) / (of_class > 0).sum(1)[:, None]).mean(1)
    return scores


def reweighted_precisions(
    probs: Float[np.ndarray, "seeds n classes"],
    table: Bool[np.ndarray, "n classes"],
    counts: Int[np.ndarray, "parts n"],
) -> Float[np.ndarray, " parts"]:
    """Return the mean average precision of every part, its mean over seeds; nan without a class.

    Summed class by class, since a hundred classes of a thousand parts would be much at once.
    """
    means = []
    for of_seed in probs:
        total, num_present = np.zeros(len(counts)), np.zeros(len(counts))
        for scores, truth in zip(of_seed.T, table.T, strict=True):
            precision = reweighted_precision(scores, truth, counts)
            total += np.nan_to_num(precision)
            num_present += ~np.isnan(precision)
        means.append(np.where(num_present > 0, total, np.nan) / np.maximum(num_present, 1))
    mean: np.ndarray = np.mean(means, axis=0)
    return mean


def reweighted_precision(
    scores: Float[np.ndarray, " n"],
    truth: Bool[np.ndarray, " n"],
    counts: Int[np.ndarray, "parts n"],
) -> Float[np.ndarray, " parts"]:
    """Return the average precision of one class in every part; nan where no video has it."""
    order = np.argsort(-scores, kind="stable")
    # A step ends where the next score is lower.
    ends = np.flatnonzero(np.append(np.diff(scores[order]) < 0, True))
    found = counts[:, order].cumsum(1)[:, ends]
    right = (counts * truth)[:, order].cumsum(1)[:, ends]
    newly = np.diff(right, axis=1, prepend=0)
    num_positives = right[:, -1]
    summed = (newly * right / np.maximum(found, 1)).sum(1)
    return np.where(num_positives > 0, summed / np.maximum(num_positives, 1), np.nan)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of which each is one number; one is None where it does not apply to the labels.

    A new one is a field here and a line in `score`: tables and results take them from here, in this
    order and by the names in the metadata: a column's, and that of a line of text.

    Attributes:
        balanced_accuracy: mean recall over the classes that occur.
        accuracy: None, as is the one above, where a video may have several classes.
        top5_accuracy: share of videos whose class is among the five likeliest; None likewise, and
            where there are no more than five.
        mean_average_precision: mean over the classes that occur, non-interpolated.
    """

    balanced_accuracy: float | None = field(
        default=None, metadata={"column": "balanced", "text": "balanced accuracy"}
    )
    accuracy: float | None = field(
        default=None, metadata={"column": "accuracy", "text": "accuracy"}
    )
    top5_accuracy: float | None = field(
        default=None, metadata={"column": "top 5", "text": "top-5 accuracy"}
    )
    mean_average_precision: float = field(metadata={"column": "mAP", "text": "mAP"})

    @staticmethod
    def names(kind: Literal["column", "text"] = "text") -> dict[str, str]:
        """Return what every score is called, by its field."""
        return {score.name: score.metadata[kind] for score in fields(Scores)}


@dataclass(frozen=True, kw_only=True)
class Metrics(Scores):
    """Scores of a set of videos, and what they are made of.

    Attributes:
        average_precisions: of each class, None for one that does not occur.
        class_counts: how many of the videos have each class.
        confusion: rows are labels, columns predictions; None where a video may have several
            classes.
    """

    num_videos: int
    average_precisions: list[float | None]
    class_counts: list[int]
    confusion: list[list[int]] | None = None


def score(probs: Float[np.ndarray, "n classes"], labels: Labels) -> Metrics:
    """Return all metrics of class probabilities that make sense for these labels.

    Raises:
        ContractError: no video has any class.
    """
    num_classes = probs.shape[1]
    table = as_table(labels, num_classes)
    precisions = average_precisions(probs, table)
    if not table.any():
        raise ContractError(
            f"none of {len(labels)} videos that are to be scored shows a class, so there is no "
            "average precision; take another split or fewer folds"
        )
    metrics = Metrics(
        num_videos=len(labels),
        mean_average_precision=float(np.mean([p for p in precisions if p is not None])),
        average_precisions=precisions,
        class_counts=table.sum(0).tolist(),
    )
    if labels.ndim == 2:
        return metrics
    predictions = probs.argmax(1)
    return replace(
        metrics,
        accuracy=float(accuracy_score(labels, predictions)),
        top5_accuracy=top5_accuracy(probs, labels),
        balanced_accuracy=balanced_accuracy(predictions, labels),
        confusion=confusion_matrix(labels, predictions, labels=range(num_classes)).tolist(),
    )


def balanced_accuracy(predictions: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """Return the mean recall over the classes that occur in `labels`.

    >>> balanced_accuracy(np.array([0, 0, 0]), np.array([0, 0, 1]))
    0.5
    """
    return float(recall_score(labels, predictions, labels=np.unique(labels), average="macro"))


def top5_accuracy(
    probs: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> float | None:
    """Return the share of videos whose class is among the five likeliest; None if all are.

    Of equal probabilities the first class counts as the likelier, as in a prediction.
    """
    if probs.shape[1] <= NUM_LIKELIEST:
        return None
    likeliest = np.argsort(-probs, axis=1, kind="stable")[:, :NUM_LIKELIEST]
    return float((likeliest == labels[:, None]).any(1).mean())


def aggregate(
    probs: Float[np.ndarray, "clips classes"],
    videos: Int[np.ndarray, " clips"],
    *,
    how: str,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n classes"]]:
    """Return each video that occurs and its probabilities: the mean of its clips, or their votes.

    Votes are counted as shares. The mean decides between equal ones, and for which of equally
    likely classes a clip votes; where that is equal too, it is the first class. At most a
    thousandth of it counts, and never as much as a vote.

    >>> clips = np.array([[0.55, 0.45], [0.55, 0.45], [0.0, 1.0]])
    >>> [aggregate(clips, np.zeros(3, int), how=h)[1].argmax() for h in ("mean", "vote")]
    [np.int64(1), np.int64(0)]
    """
    present = np.unique(videos)
    means = np.stack([probs[videos == v].mean(0) for v in present])
    if how == "mean":
        return present, means
    members = np.searchsorted(present, videos)
    is_likeliest = probs == probs.max(1, keepdims=True)
    one_hot = np.eye(probs.shape[1])[np.where(is_likeliest, means[members], -1).argmax(1)]
    votes = np.stack([one_hot[videos == v].mean(0) for v in present])
    weights = np.minimum(1 / 1000, 1 / (2 * np.bincount(members)))[:, None]
    return present, (votes + weights * means) / (1 + weights)
