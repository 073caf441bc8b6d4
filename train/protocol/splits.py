"""Splits that are disjoint by group, and the hash by which two results can be told to share one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool
from sklearn.model_selection import StratifiedGroupKFold

from features_store.errors import ContractError, UsageError
from features_store.manifest import SPLITS
from features_store.spec import canonical_json
from train.data.labels import Labels
from train.protocol.sides import choose_sides

VALIDATION_PARTS = 4  # a quarter of the videos that are not for testing


@dataclass(frozen=True)
class Split:
    """Positions of videos: `fitting` to learn from, `test` to be looked at once.

    Attributes:
        inner: pairs (train, validation) within `fitting`, by which options are chosen.
    """

    fitting: np.ndarray
    inner: tuple[tuple[np.ndarray, np.ndarray], ...]
    test: np.ndarray


def make_folds(
    labels: Labels, groups: np.ndarray, *, num_folds: int, inner_folds: int = 1, seed: int = 0
) -> list[Split]:
    """Return `num_folds` splits whose tests cover every video once; no group is on two sides.

    Raises:
        UsageError: there are fewer groups than folds.
    """
    num_groups = len(np.unique(groups))
    if not 2 <= num_folds <= num_groups:
        raise UsageError(
            f"`folds` must be between 2 and the number of groups ({num_groups}), got {num_folds}"
        )
    positions = np.arange(len(labels))
    splits = []
    for test in _stratified_tests(labels, groups, num_folds=num_folds, seed=seed):
        rest = np.setdiff1d(positions, test)
        inner = _inner(rest, labels, groups, num_folds=inner_folds, seed=seed)
        splits.append(Split(rest, inner, test))
    return splits


def _stratified_tests(
    labels: Labels, groups: np.ndarray, *, num_folds: int, seed: int
) -> list[np.ndarray]:
    """Return the test positions of each fold; classes rarer than the folds are allowed."""
    if labels.ndim == 2:
        return _tests_of_table(labels, groups, num_folds=num_folds, seed=seed)
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    # Stratification is by what scikit-learn can count: it refuses classes with fewer members than
    # folds, and those are told apart by nothing anyway.
    counts = np.bincount(labels)
    strata = np.where(counts[labels] >= num_folds, labels, -1)
    if (strata == -1).any() and (strata == -1).sum() < num_folds:
        strata = np.where(strata == -1, labels[np.argmax(counts[labels])], strata)
    return [test for _, test in splitter.split(np.zeros(len(labels)), strata, groups)]


def _tests_of_table(
    table: Bool[np.ndarray, "n classes"], groups: np.ndarray, *, num_folds: int, seed: int
) -> list[np.ndarray]:
    """Return the test positions of each fold where videos may have several classes.

    scikit-learn keeps the shares of one label a video; here those of every class are kept.
    """
    shares = {str(fold): 1 / num_folds for fold in range(num_folds)}
    sets = np.unique(groups, return_inverse=True)[1]
    sides = np.array(choose_sides(table, sets, shares=shares, seed=seed))
    return [np.flatnonzero(sides == fold) for fold in shares]


def _inner(
    fitting: np.ndarray, labels: Labels, groups: np.ndarray, *, num_folds: int, seed: int
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return `num_folds` pairs (train, validation), each validation about a quarter, disjoint."""
    num_parts = min(VALIDATION_PARTS, len(np.unique(groups[fitting])))
    if num_parts < 2:
        raise ContractError(
            "validation needs a group of its own, but only one is left beside the test videos; "
            "give the manifest more groups"
        )
    if num_folds > num_parts:
        raise UsageError(f"`inner_folds` can be at most {num_parts} here, got {num_folds}")
    parts = _stratified_tests(labels[fitting], groups[fitting], num_folds=num_parts, seed=seed)
    return tuple((np.delete(fitting, part), fitting[part]) for part in parts[:num_folds])


def split_by_manifest(
    splits: Sequence[str],
    labels: Labels,
    groups: np.ndarray,
    *,
    inner_folds: int = 1,
    seed: int = 0,
) -> Split:
    """Return the split that a manifest's column says: train, val (or validation), test.

    Without videos for validation, some of train are taken, disjoint by group.

    Raises:
        ContractError: train or test is empty, or a value is none of these words.
    """
    said = np.array(splits)
    unknown = sorted(set(said) - {*SPLITS, ""})
    if unknown:
        raise ContractError(
            f"split {str(unknown[0])!r} in the manifest is none of train, val, test (or empty)"
        )
    train, test = np.flatnonzero(said == "train"), np.flatnonzero(said == "test")
    validation = np.flatnonzero((said == "val") | (said == "validation"))
    for name, positions in (("train", train), ("test", test)):
        if len(positions) == 0:
            raise ContractError(
                f"the split {name!r} of the manifest is empty; fill its column 'split', "
                "or cross-validate with `folds`"
            )
    _require_disjoint(groups, {"train": train, "val": validation, "test": test})
    if len(validation):
        fitting = np.sort(np.concatenate([train, validation]))
        return Split(fitting, ((train, validation),), test)
    return Split(train, _inner(train, labels, groups, num_folds=inner_folds, seed=seed), test)


def _require_disjoint(groups: np.ndarray, sides: dict[str, np.ndarray]) -> None:
    """Raise `ContractError` for a group (or a file's time spans) on two sides of a split."""
    for (one, a), (other, b) in combinations(sides.items(), 2):
        shared = sorted(set(groups[a].tolist()) & set(groups[b].tolist()))
        if shared:
            raise ContractError(
                f"the manifest has group {shared[0]!r} in {one} and in {other} "
                f"({len(shared)} such groups); videos of a group are alike, so put each on one "
                "side, or give spans of a long video groups of their own"
            )


def split_hash(video_ids: Sequence[str], split: Split) -> str:
    """Return a short hash of which video is on which side."""
    named = {"fitting": split.fitting, "test": split.test}
    named |= {f"validation{i}": validation for i, (_, validation) in enumerate(split.inner)}
    sides = {name: sorted(video_ids[i] for i in side) for name, side in named.items()}
    return hashlib.sha256(canonical_json(sides)).hexdigest()[:12]
