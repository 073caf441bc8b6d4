"""Intervals of scores: what they are of, and that they hold as often as they say."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from benchmarks import interval_coverage as simulated
from train.scores.intervals import (
    MAX_PARTS,
    bands,
    interval,
    leave_out_groups,
    standard_error,
)
from train.scores.metrics import reweighted_accuracies

DRAWS = 200
FEW_GROUPS = {"groups": 6, "classes": 9}


def mean(outputs, labels, counts):
    """Return the mean of the values that count."""
    return (counts * outputs[0]).sum(1) / counts.sum(1)


def without_each(values):
    """Return means without each value in turn."""
    return leave_out_groups(mean, values[None], *[np.arange(len(values))] * 2)


def test_the_interval_of_a_mean_of_groups_is_student_s():
    values = np.random.default_rng(0).normal(size=12)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)

    assert interval(values.mean(), without_each(values)) == pytest.approx(tuple(expected))


def test_one_group_has_no_interval():
    left_out = leave_out_groups(reweighted_accuracies, np.zeros((1, 4), int), np.arange(4) % 2,
                                np.zeros(4))  # fmt: skip

    assert len(left_out) == 0
    assert standard_error(left_out) is None
    assert interval(0.5, left_out) is None
    assert bands([0.0, 0.5], np.stack([left_out, left_out])) == [None, None]


def test_very_many_groups_are_left_out_in_bundles():
    values = np.random.default_rng(0).normal(size=5 * MAX_PARTS)
    left_out = without_each(values)

    assert len(left_out) == MAX_PARTS
    assert standard_error(left_out) == pytest.approx(len(values) ** -0.5, rel=0.1)


def test_a_head_that_never_differs_has_an_interval_of_nothing():
    left_out = np.stack([np.zeros(8), np.random.default_rng(0).normal(size=8)])

    assert bands([0.0, 1.0], left_out)[0] == (0.0, 0.0)
    assert bands([0.0, 1.0], left_out)[1] == pytest.approx(interval(1.0, left_out[1]))


def test_the_band_of_differences_to_a_common_first_is_dunnett_s():
    """Dunnett's table of 1964 has 2.51 for five treatments, 5 %, two-sided, very many values."""
    heads = np.random.default_rng(0).normal(size=(6, 900))
    left_out = np.stack([without_each(head - heads[0]) for head in heads[1:]])

    _, high = bands([0.0] * 5, left_out)[0]

    assert high / standard_error(left_out[0]) == pytest.approx(2.51, rel=0.02)


@pytest.mark.parametrize("classes", [2, 9])
def test_intervals_of_few_groups_hold_as_often_as_they_say(classes):
    before, now = simulated.coverage(draws=DRAWS, groups=20, classes=classes)

    assert 0.91 <= now <= 0.99
    assert before <= now


def test_the_percentiles_that_were_here_before_do_not_hold_among_few_groups():
    before, now = simulated.coverage(draws=DRAWS, **FEW_GROUPS)

    assert 0.9 <= now <= 0.99
    assert before < 0.9


def test_of_many_equal_heads_none_leaves_the_band():
    by_intervals, by_band = simulated.family_error(draws=50, groups=20, classes=2)

    assert by_intervals > 0.2
    assert by_band <= 0.14
