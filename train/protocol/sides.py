"""Which side of a new split every set of videos goes to: near the shares asked for, in every class.

scikit-learn's `StratifiedGroupKFold` cuts equal parts by one class a video, and less evenly; here
sides are of any size and videos may have several classes.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from features_store.errors import ContractError, UsageError
from train.data.labels import Labels, as_table

# Every pair is tried, and the small sets beyond these were placed where they fit.
SWAPPED_SETS = 500


def choose_sides(
    labels: Labels,
    sets: Int[np.ndarray, " n"],
    *,
    shares: Mapping[str, float],
    seed: int = 0,
) -> list[str]:
    """Return the side of every video; videos of one set are on the same side, no side is empty.

    The largest sets are placed first, each where it serves best; then sets of different sides are
    swapped for as long as that brings the classes nearer to their shares.

    Args:
        shares: part of the videos that each side is to have; they add up to one.

    Raises:
        UsageError: a share is not between 0 and 1.
        ContractError: there are fewer sets than sides.
    """
    wrong = [f"{name} {share:g}" for name, share in shares.items() if not 0 < share < 1]
    if wrong:
        raise UsageError(
            f"every side of a split must have a share between 0 and 1, got {', '.join(wrong)}"
        )
    counts = _count_classes(labels, sets)
    if len(counts) < len(shares):
        raise ContractError(
            f"a split into {', '.join(shares)} needs {len(shares)} sets of videos that share no "
            f"group, file or content; these {len(labels)} videos make {len(counts)}"
        )
    expected = np.array(list(shares.values()))[:, None] * counts.sum(0)
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.permutation(len(counts)), -counts.sum(1)))
    side_of = _place(counts[order], expected)
    _improve(side_of, counts[order], expected)
    sides = np.empty(len(counts), int)
    sides[order] = side_of
    names = list(shares)
    return [names[i] for i in sides[sets]]


def _count_classes(
    labels: Labels, numbers: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "sets columns"]:
    """Return how many videos of each class every set has; having none of them is a class too."""
    table = as_table(labels, int(labels.max()) + 1)
    table = np.column_stack([table, ~table.any(1)])
    counts = np.zeros((numbers.max() + 1, table.shape[1]))
    np.add.at(counts, numbers, table)
    return counts[:, counts.any(0)]


def _place(
    counts: Float[np.ndarray, "sets classes"], expected: Float[np.ndarray, "sides classes"]
) -> Int[np.ndarray, " sets"]:
    """Return a side for each set, in this order; the last ones go where nothing is yet."""
    filled = np.zeros_like(expected)
    misfits = _misfit(filled, expected)
    side_of = np.full(len(counts), -1)
    for i, count in enumerate(counts):
        after = _misfit(filled + count, expected)
        costs = after - misfits
        is_empty = filled.sum(1) == 0
        if len(counts) - i <= is_empty.sum():
            costs[~is_empty] = np.inf
        side = side_of[i] = costs.argmin()
        filled[side] += count
        misfits[side] = after[side]
    return side_of


def _improve(
    side_of: Int[np.ndarray, " sets"],
    counts: Float[np.ndarray, "sets classes"],
    expected: Float[np.ndarray, "sides classes"],
) -> None:
    """Swap sets of different sides, each with the one that helps most, until no swap helps."""
    filled = np.zeros_like(expected)
    np.add.at(filled, side_of, counts)
    misfits = _misfit(filled, expected)
    has_swapped = True
    while has_swapped:
        has_swapped = False
        for i in range(len(counts[:SWAPPED_SETS])):
            here, there = side_of[i], side_of[:SWAPPED_SETS]
            shifts = counts[:SWAPPED_SETS] - counts[i]  # what each brings here for what it takes
            costs = _misfit(filled[here] + shifts, expected[[here]]) - misfits[here]
            costs += _misfit(filled[there] - shifts, expected[there]) - misfits[there]
            costs[there == here] = 0
            j = costs.argmin()
            if costs[j] < -1e-9:
                filled[here] += shifts[j]
                filled[side_of[j]] -= shifts[j]
                side_of[i], side_of[j] = side_of[j], here
                misfits = _misfit(filled, expected)
                has_swapped = True


def _misfit(
    filled: Float[np.ndarray, "costs classes"], expected: Float[np.ndarray, "sides classes"]
) -> Float[np.ndarray, " costs"]:
    """Return chi-square, and 1 for each class that a side lacks."""
    misfit: np.ndarray = ((filled - expected) ** 2 / expected + (filled == 0)).sum(1)
    return misfit
