"""Splits that part no set of tied videos, and the hash by which two results can share one.

What ties videos is said in `train.protocol.ties`; here a set is a number.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features_store.errors import ContractError, UsageError
from features_store.manifest import SPLITS, side_of
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
    """Return `num_folds` splits whose tests cover every video once.

    Args:
        groups: sets of tied videos; none is on two sides.

    Raises:
        UsageError: there are fewer groups than folds.
    """
    num_groups = len(np.unique(groups))
    if not 2 <= num_folds <= num_groups:
        raise UsageError(
            f"`folds` must be between 2 and the number of groups ({num_groups}), got {num_folds}; "
            "videos of one group, file or content count as one"
        )
    positions = np.arange(len(labels))
    splits = []
    for test in _equal_parts(labels, groups, num_parts=num_folds, seed=seed):
        rest = np.setdiff1d(positions, test)
        inner = _inner(rest, labels, groups, num_folds=inner_folds, seed=seed)
        splits.append(Split(rest, inner, test))
    return splits


def _equal_parts(
    labels: Labels, groups: np.ndarray, *, num_parts: int, seed: int
) -> list[np.ndarray]:
    """Return the positions of each of some parts, which have every class in its share."""
    shares = {str(part): 1 / num_parts for part in range(num_parts)}
    numbers = np.unique(groups, return_inverse=True)[1]
    sides = np.array(choose_sides(labels, numbers, shares=shares, seed=seed))
    return [np.flatnonzero(sides == part) for part in shares]


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
    parts = _equal_parts(labels[fitting], groups[fitting], num_parts=num_parts, seed=seed)
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

    Without videos for validation, some of train are taken, disjoint by group. Whether the column
    itself parts what is tied is asked of `train.protocol.ties.refuse_leaks`, which can name it.

    Raises:
        ContractError: train or test is empty, or a value is none of these words.
    """
    if unknown := sorted(set(splits) - {*SPLITS, ""}):
        raise ContractError(
            f"split {unknown[0]!r} in the manifest is none of train, val, test (or empty)"
        )
    sides = np.array([side_of(split) for split in splits])
    train, validation, test = (np.flatnonzero(sides == side) for side in ("train", "val", "test"))
    for name, positions in (("train", train), ("test", test)):
        if len(positions) == 0:
            raise ContractError(
                f"the split {name!r} of the manifest is empty; fill its column 'split', "
                "or cross-validate with `folds`"
            )
    if len(validation):
        fitting = np.sort(np.concatenate([train, validation]))
        return Split(fitting, ((train, validation),), test)
    return Split(train, _inner(train, labels, groups, num_folds=inner_folds, seed=seed), test)


def split_hash(video_ids: Sequence[str], split: Split) -> str:
    """Return a short hash of which video is on which side."""
    named = {"fitting": split.fitting, "test": split.test}
    named |= {f"validation{i}": validation for i, (_, validation) in enumerate(split.inner)}
    sides = {name: sorted(video_ids[i] for i in side) for name, side in named.items()}
    return hashlib.sha256(canonical_json(sides)).hexdigest()[:12]
