"""Heads of two runs on the same test videos, compared as the heads of one table are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features_store.errors import ContractError, UsageError, nearest_name
from pipelines.training.tested import TestedRun
from train.protocol.results import Pooled, differences, pool
from train.scores.intervals import Interval

OF_FEATURES = {
    "spec_digest": "spec",
    "dtype": "dtype",
    "features": "features",
    "versions": "versions of libraries",
}


@dataclass(frozen=True)
class ComparedHeads:
    """A head of each run; the difference is B less A, with `interval` and `band` as in a table."""

    head_a: str
    head_b: str
    score_a: float
    score_b: float
    difference: float
    interval: Interval | None
    band: Interval | None


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same splits and labels.

    Attributes:
        metric: of all scores.
        differ: what differs beside the heads, such as the features; empty for one store.
        only_a, only_b: heads that the other run does not have; empty if two heads were named.
    """

    a: str
    b: str
    metric: str
    num_videos: int
    num_groups: int
    differ: list[str]
    heads: list[ComparedHeads]
    only_a: list[str]
    only_b: list[str]


def compare(
    a: Path, b: Path, *, head_a: str | None = None, head_b: str | None = None
) -> Comparison:
    """Compare the heads that two run folders share, or one head of each.

    Raises:
        UsageError: one head is given without the other, a run does not have it, or no head is in
            both runs.
        ContractError: a folder holds no finished run, or the runs differ in splits, labels, videos,
            groups or metric, so that no difference of scores would mean anything.
    """
    if (head_a is None) != (head_b is None):
        raise UsageError("`head_a` and `head_b` belong together; give both, or neither")
    one, other = TestedRun.read(a), TestedRun.read(b)
    _require_same_tests(one, other)
    if head_a is None or head_b is None:
        pairs = [(head, head) for head in _shared(one, other)]
        alone = _unshared(one.heads, other.heads)
    else:
        pairs, alone = [(_known(one, head_a), _known(other, head_b))], ([], [])
    pooled = [(_pool(other, of_b, like=one), _pool(one, of_a, like=one)) for of_a, of_b in pairs]
    found = differences(pooled)
    return Comparison(
        a=str(a),
        b=str(b),
        metric=one.task.metric,
        num_videos=len(one.videos),
        num_groups=len({video.group for video in one.videos}),
        differ=[
            name
            for key, name in OF_FEATURES.items()
            if one.identity.get(key) != other.identity.get(key)
        ],
        heads=[
            ComparedHeads(*names, in_a.score, in_b.score, **asdict(difference))
            for names, (in_b, in_a), difference in zip(pairs, pooled, found, strict=True)
        ],
        only_a=alone[0],
        only_b=alone[1],
    )


def _require_same_tests(one: TestedRun, other: TestedRun) -> None:
    """Raise `ContractError` for runs whose scores are not of the same, naming what differs."""
    differ = [
        f"{name} ({_short(mine)} and {_short(theirs)})"
        for name, mine, theirs in _said_of_tests(one, other)
        if mine != theirs
    ]
    if differ:
        raise ContractError(
            f"{one.path} and {other.path} cannot be compared: they differ in {', '.join(differ)}; "
            "train both on one manifest with the same `folds`, `inner_folds` and `split_seed`"
        )


def _said_of_tests(one: TestedRun, other: TestedRun) -> Iterator[tuple[str, Any, Any]]:
    """Yield what two runs must agree in, and what each says."""
    yield "metric", one.task.metric, other.task.metric
    yield "classes", one.classes, other.classes
    of_one, of_other = ({video.video_id: video for video in run.videos} for run in (one, other))
    yield "test videos", *_unshared(of_one, of_other)
    shared = sorted(of_one.keys() & of_other.keys())
    for name in ("label", "group"):
        said = [(i, getattr(of_one[i], name), getattr(of_other[i], name)) for i in shared]
        for video, mine, theirs in [each for each in said if each[1] != each[2]][:1]:
            yield f"the {name} of {video}", mine, theirs
    splits, other_splits = (run.identity.get("split_hashes") for run in (one, other))
    yield "splits", splits, other_splits
    if splits == other_splits:  # else the videos are others, and their labels too
        yield "labels", one.identity.get("labels"), other.identity.get("labels")


def _unshared(one: Collection[str], other: Collection[str]) -> tuple[list[str], list[str]]:
    """Return what only one of both has, and what only the other."""
    return sorted(set(one) - set(other)), sorted(set(other) - set(one))


def _short(said: Any) -> str:
    """Return a value for a line of text: of several the first."""
    if not isinstance(said, list):
        return str(said)[:40]
    more = f" and {len(said) - 1} more" if len(said) > 1 else ""
    return f"{said[0]}{more}" if said else "none"


def _shared(one: TestedRun, other: TestedRun) -> list[str]:
    shared = [head for head in one.heads if head in other.heads]
    if not shared:
        raise UsageError(
            f"no head is in both runs; give `head_a`, of {', '.join(one.heads)}, and `head_b`, of "
            f"{', '.join(other.heads)}"
        )
    return shared


def _known(run: TestedRun, head: str) -> str:
    if head not in run.heads:
        raise UsageError(f"{run.path} has no head {head!r}; {nearest_name(head, list(run.heads))}")
    return head


def _pool(run: TestedRun, head: str, *, like: TestedRun) -> Pooled:
    """Score a head of a run on the test videos, in the order that another run has them in."""
    groups = np.array([video.group for video in like.videos])
    return pool(run.probs(head, like.videos), like.labels(like.videos), groups, task=run.task)
