"""Videos of several classes: loss, probabilities, scores and splits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torch.nn.functional import binary_cross_entropy_with_logits

from features_store.errors import ContractError, UsageError
from train.fitting.config import TrainConfig
from train.fitting.losses import sequence_binary_cross_entropy
from train.fitting.tasks import MULTI_LABEL, task_of
from train.protocol.splits import make_folds, split_by_manifest
from train.scores.intervals import leave_out_groups
from train.scores.metrics import (
    average_precisions,
    reweighted_precision,
    reweighted_precisions,
    score,
)

# Loss and probabilities


@pytest.fixture
def clips():
    """Clips of 4, 2 and 1 valid steps, absurd logits behind the mask; the last has no class."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 3, generator=generator, dtype=torch.float64)
    mask = torch.arange(4) < torch.tensor([4, 2, 1]).unsqueeze(1)
    logits[~mask] = 1e4
    labels = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
    return logits, labels, mask


@pytest.mark.parametrize("has_weights", [False, True])
def test_the_loss_is_torch_s_over_valid_steps_then_clips(clips, has_weights):
    logits, labels, mask = clips
    weights = torch.tensor([[1.0, 0.5, 2.0], [3.0, 1.0, 0.25]], dtype=torch.float64)
    lacks, has = weights if has_weights else torch.ones(2, 3, dtype=torch.float64)

    loss = sequence_binary_cross_entropy(
        logits, labels, mask, answer_weights=weights if has_weights else None
    )

    of_clips = []
    for i, num_steps in enumerate((4, 2, 1)):
        targets = labels[i].double().expand(num_steps, 3)
        summed = binary_cross_entropy_with_logits(
            logits[i, :num_steps], targets, weight=lacks, pos_weight=has / lacks, reduction="sum"
        )
        of_clips.append(summed / num_steps)
    torch.testing.assert_close(loss, torch.stack(of_clips).mean())


def test_logits_of_a_single_step_speak_for_the_clip(clips):
    logits, labels, mask = clips

    loss = sequence_binary_cross_entropy(logits[:, :1], labels, mask)

    per_class = binary_cross_entropy_with_logits(logits[:, 0], labels.double(), reduction="none")
    torch.testing.assert_close(loss, per_class.sum(1).mean())
    with pytest.raises(ValueError, match=r"1 step or one per frame of the mask \(4\), got 3"):
        sequence_binary_cross_entropy(logits[:, :3], labels, mask)


def test_logits_behind_the_mask_get_no_gradient(clips):
    logits, labels, mask = clips
    logits.requires_grad_()

    sequence_binary_cross_entropy(logits, labels, mask).backward()

    assert logits.grad[~mask].abs().max() == 0
    assert logits.grad[mask].abs().min() > 0


@pytest.mark.parametrize(("last_n", "firsts"), [(None, (0, 0, 0)), (2, (2, 0, 0)), (1, (3, 1, 0))])
def test_probabilities_are_sigmoids_averaged_over_the_last_valid_steps(clips, last_n, firsts):
    logits, _, mask = clips

    averaged = MULTI_LABEL.clip_probabilities(logits, mask, last_n=last_n)

    stops = (4, 2, 1)
    expected = [
        logits[i, first:stop].sigmoid().mean(0)
        for i, (first, stop) in enumerate(zip(firsts, stops, strict=True))
    ]
    torch.testing.assert_close(averaged, torch.stack(expected))


def test_class_weights_let_both_answers_count_the_same():
    table = np.zeros((10, 3), bool)
    table[:2, 0] = table[:, 2] = True

    weights = MULTI_LABEL.class_weights(table, 3).numpy()

    summed = np.stack([(~table).sum(0), table.sum(0)]) * weights
    np.testing.assert_allclose(summed, [[5, 10, 0], [5, 0, 10]], rtol=1e-6)


def test_votes_are_refused():
    with pytest.raises(UsageError, match="take `aggregate` mean"):
        task_of(TrainConfig(multi_label=True, aggregate="vote"))


# Scores

AP = [
    pytest.param([1, 1, 0, 0], 1.0, id="perfect"),
    pytest.param([0, 0, 1, 1], (1 / 3 + 2 / 4) / 2, id="PAPERS 8, row 30"),
    pytest.param([0, 0, 0, 1], 1 / 4, id="last"),
]


@pytest.mark.parametrize(("ranked", "expected"), AP)
def test_average_precision_has_its_closed_form_value(ranked, expected):
    truth, scores = np.array(ranked, bool), np.array([0.9, 0.8, 0.7, 0.6])

    assert average_precisions(scores[:, None], truth[:, None]) == [pytest.approx(expected)]
    drawn = np.ones((1, 4), int)
    assert reweighted_precision(scores, truth, drawn) == pytest.approx([expected])


@given(st.integers(0, 10**6), st.booleans())
def test_precision_of_a_draw_is_scikit_learn_s_of_the_drawn_videos(seed, has_ties):
    rng = np.random.default_rng(seed)
    truth, drawn = rng.random(30) < 0.3, rng.integers(0, 4, (3, 30))
    scores = rng.integers(0, 5, 30) / 5.0 if has_ties else rng.random(30)

    for found, counts in zip(reweighted_precision(scores, truth, drawn), drawn, strict=True):
        videos = np.repeat(np.arange(30), counts)
        if truth[videos].any():
            expected = average_precision_score(truth[videos], scores[videos])
            assert found == pytest.approx(expected)
        else:
            assert np.isnan(found)


def test_a_class_without_videos_is_not_in_the_mean_and_accuracies_are_not_made_up():
    probs = np.array([[0.9, 0.1, 0.5], [0.8, 0.2, 0.5], [0.7, 0.3, 0.5], [0.6, 0.4, 0.5]])
    table = np.array([[0, 0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 0]], bool)

    metrics = score(probs, table)

    assert metrics.average_precisions == [pytest.approx(5 / 12), 1.0, None]
    assert metrics.mean_average_precision == pytest.approx((5 / 12 + 1) / 2)
    assert metrics.class_counts == [2, 2, 0]
    assert (metrics.accuracy, metrics.balanced_accuracy, metrics.confusion) == (None, None, None)
    with pytest.raises(ContractError, match="none of 4 videos that are to be scored shows a class"):
        score(probs, np.zeros((4, 3), bool))


def test_precisions_without_a_group_are_those_of_the_others():
    rng = np.random.default_rng(0)
    table, groups = rng.random((40, 3)) < 0.4, np.repeat(np.arange(10), 4)
    probs = np.clip(table + rng.normal(0, 0.8, (2, 40, 3)), -2, 3)

    left_out = leave_out_groups(reweighted_precisions, probs, table, groups)

    assert len(left_out) == 10
    for group, found in enumerate(left_out):
        others = groups != group
        of_seeds = [score(p[others], table[others]).mean_average_precision for p in probs]
        assert found == pytest.approx(np.mean(of_seeds))


def test_a_part_without_any_class_is_missing():
    table, groups = np.array([[True], [False], [False], [False]]), np.arange(4)

    assert len(leave_out_groups(reweighted_precisions, np.ones((1, 4, 1)), table, groups)) == 3


# Splits


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_folds_of_several_labels_test_each_video_once_and_share_no_group(seed, num_folds):
    rng = np.random.default_rng(seed)
    table, groups = rng.random((60, 5)) < 0.25, rng.integers(0, 12, 60).astype(str)
    splits = make_folds(table, groups, num_folds=num_folds)

    tested = np.sort(np.concatenate([split.test for split in splits]))
    np.testing.assert_array_equal(tested, np.arange(60))
    for split in splits:
        assert not set(groups[split.test]) & set(groups[split.fitting])
        ((train, validation),) = split.inner
        assert not set(groups[train]) & set(groups[validation])
        assert sorted([*train, *validation]) == split.fitting.tolist()


def test_folds_have_every_class_in_its_share():
    """Twelve classes as rare as in Hollywood2, a tenth of the videos with two, some with none."""
    rng = np.random.default_rng(0)
    table = rng.random((800, 12)) < rng.uniform(0.02, 0.15, 12)
    splits = make_folds(table, np.arange(800).astype(str), num_folds=4)

    counts = np.array([[*table[s.test].sum(0), (~table[s.test].any(1)).sum()] for s in splits])
    np.testing.assert_allclose(counts, np.tile(counts.mean(0), (4, 1)), atol=1.5)


def test_a_manifest_s_split_gets_validation_videos_of_several_labels():
    rng = np.random.default_rng(0)
    table, said = rng.random((40, 3)) < 0.4, ["train"] * 30 + ["test"] * 10
    split = split_by_manifest(said, table, np.arange(40).astype(str))

    ((train, validation),) = split.inner
    assert sorted([*train, *validation]) == list(range(30))
    assert len(validation) == pytest.approx(7.5, abs=2)
