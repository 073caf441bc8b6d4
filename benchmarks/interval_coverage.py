"""How often intervals of `cubereel train` hold, and how often one of many equal heads seems better.

    python -m benchmarks.interval_coverage [--draws 1000]

Each draw is a table with a known truth. A head is right about a video when a sum is positive: what
the head is worth, how hard its group is (for all heads, and for this head), how hard the video is
(likewise), all normal. So videos of a group are alike, heads fail at the same videos, and a head's
recall in all that could be drawn is the normal distribution function of its worth over the
deviation of the sum, the same in each class. Of two heads the worths differ, and so by a known
amount do the recalls; of 21 equal ones they do not. A group has 1 video and a Poisson number of
others, 6.5 in the mean; each video's class is drawn from all, or each group has one class, as where
a group is a film of one thing.

Intervals and bands are those of `train`: `SINGLE_LABEL.left_out`, `interval`, `bands`. Beside them
stands the percentile bootstrap over groups that it had before. The table says how often an interval
holds the true difference (goal 0.93 to 0.97), and how often one of the equal heads at least seems
to differ from the first, by its interval or by the band (goal at most 0.08).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from train.data.labels import as_table
from train.fitting.tasks import SINGLE_LABEL
from train.scores.intervals import bands, interval
from train.scores.metrics import reweighted_accuracies

SHAPES = [  # groups, classes, whether each group has one class
    *((groups, classes, False) for groups in (20, 45, 200) for classes in (2, 9)),
    *((groups, 9, True) for groups in (20, 45)),
    *((6, classes, False) for classes in (2, 9)),
]
WORTHS, NUM_EQUAL = (0.3, 0.6), 21
GROUP, GROUP_AND_HEAD, VIDEO, VIDEO_AND_HEAD = 0.7, 0.5, 0.7, 0.7  # deviations
MEAN_VIDEOS = 6.5


@dataclass(frozen=True)
class Drawn:
    """A table: what heads say of videos, as certainties, and what is true."""

    probs: np.ndarray  # (heads, n, classes)
    labels: np.ndarray
    groups: np.ndarray


def draw(
    rng: np.random.Generator, worths: np.ndarray, *, groups: int, classes: int, pure: bool = False
) -> Drawn:
    """Return a table of one head for each worth."""
    group = np.repeat(np.arange(groups), 1 + rng.poisson(MEAN_VIDEOS - 1, groups))
    labels = rng.integers(classes, size=groups)[group] if pure else rng.integers(
        classes, size=len(group)
    )  # fmt: skip
    heads, videos = len(worths), len(group)
    ease = GROUP * rng.normal(size=groups)[group] + VIDEO * rng.normal(size=videos)
    ease = ease + GROUP_AND_HEAD * rng.normal(size=(heads, groups))[:, group]
    ease = ease + VIDEO_AND_HEAD * rng.normal(size=(heads, videos))
    is_right = worths[:, None] + ease > 0
    wrong = (labels + rng.integers(1, classes, size=(heads, videos))) % classes
    said = np.where(is_right, labels, wrong)
    return Drawn(np.eye(classes)[said], labels, group)


def true_difference() -> float:
    """Return by how much the balanced accuracy of the second head is larger."""
    deviation = np.sqrt(GROUP**2 + GROUP_AND_HEAD**2 + VIDEO**2 + VIDEO_AND_HEAD**2)
    first, second = norm.cdf(np.array(WORTHS) / deviation)
    return float(second - first)


def differences(table: Drawn) -> tuple[list[float], np.ndarray]:
    """Return each head's difference to the first, and the same without each group."""
    every = np.ones((1, len(table.labels)), int)
    values, left_out = [], []
    for probs in table.probs[:, None]:
        values.append(reweighted_accuracies(probs.argmax(2), table.labels, every)[0])
        left_out.append(SINGLE_LABEL.left_out(probs, table.labels, table.groups))
    return [value - values[0] for value in values[1:]], np.stack(left_out[1:]) - left_out[0]


def percentiles(table: Drawn, *, num_draws: int = 1000) -> tuple[float, float]:
    """Return the interval of two heads by the percentile bootstrap, as `train` had it before."""
    names = np.unique(table.groups)
    drawn = np.random.default_rng(0).integers(len(names), size=(num_draws, len(names)))
    counts = np.stack([np.bincount(row, minlength=len(names)) for row in drawn]).astype(float)
    of_group = np.eye(len(names))[:, table.groups]
    classes = as_table(table.labels, table.probs.shape[2])
    present = counts @ (of_group @ classes)
    scores = []
    for said in table.probs.argmax(2):
        hits = counts @ (of_group @ (classes & (said == table.labels)[:, None]))
        scores.append((hits / np.maximum(present, 1)).sum(1) / (present > 0).sum(1))
    low, high = np.percentile(scores[1] - scores[0], [2.5, 97.5])
    return low, high


def coverage(*, draws: int, **shape: int) -> tuple[float, float]:
    """Return how often an interval holds the true difference: before, and now."""
    rng, truth, held = np.random.default_rng(1), true_difference(), np.zeros(2)
    for _ in range(draws):
        table = draw(rng, np.array(WORTHS), **shape)
        (value,), (left_out,) = differences(table)
        both = percentiles(table), interval(value, left_out)
        held += [low <= truth <= high for low, high in both]
    before, now = held / draws
    return before, now


def family_error(*, draws: int, **shape: int) -> tuple[float, float]:
    """Return how often one of 21 equal heads seems to differ: by intervals, and by the band."""
    rng, wrong = np.random.default_rng(2), np.zeros(2)
    for _ in range(draws):
        table = draw(rng, np.full(NUM_EQUAL, WORTHS[0]), **shape)
        values, left_out = differences(table)
        alone = [interval(*each) for each in zip(values, left_out, strict=True)]
        together = bands(values, left_out)
        wrong += [any(low > 0 or high < 0 for low, high in rule) for rule in (alone, together)]
    by_intervals, by_band = wrong / draws
    return by_intervals, by_band


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000, help="tables of each row")
    draws = parser.parse_args().draws
    print("| groups | classes | a group has | before | now | 21 equal heads: intervals | band |")
    print("|---|---|---|---|---|---|---|")
    for groups, classes, pure in SHAPES:
        shape = {"groups": groups, "classes": classes, "pure": pure}
        figures = (*coverage(draws=draws, **shape), *family_error(draws=draws, **shape))
        said = " | ".join(f"{each:.3f}" for each in figures)
        print(f"| {groups} | {classes} | {'one' if pure else 'any'} | {said} |", flush=True)


if __name__ == "__main__":
    main()
