from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from train.fitting.losses import clip_probabilities, sequence_cross_entropy
from train.heads.blocks.penalties import doubly_stochastic_penalty

DATA = Path(__file__).parent / "data"
NUM_FRAMES, GRID = 30, 7


def all_valid(num_clips, num_frames):
    return torch.ones(num_clips, num_frames, dtype=torch.bool)


def one_hot_maps(cells):
    return one_hot(cells, GRID**2).double().reshape(1, len(cells), GRID, GRID)


PENALTIES = [
    pytest.param(torch.full((1, 30, 7, 7), 1 / 49, dtype=torch.float64), 361 / 49, id="uniform"),
    pytest.param(one_hot_maps(torch.full((30,), 24)), 889.0, id="always the same cell"),
    pytest.param(one_hot_maps(torch.arange(30)), 19.0, id="thirty different cells"),
]


@pytest.mark.parametrize(("weights", "expected"), PENALTIES)
def test_penalty_has_its_closed_form_value(weights, expected):
    penalty = doubly_stochastic_penalty(weights, all_valid(1, NUM_FRAMES))

    assert penalty.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", ["location", "content"])
def test_masked_frames_do_not_enter_the_penalty(form):
    weights = torch.from_numpy(np.load(DATA / f"soft_attention_{form}.npz")["attention"])
    weights = weights.reshape(2, 5, 3, 3)
    padded = torch.cat([weights, torch.full((2, 2, 3, 3), 1e3, dtype=torch.float64)], dim=1)
    mask = all_valid(2, 7)
    mask[:, 5:] = False

    expected = doubly_stochastic_penalty(weights, all_valid(2, 5))
    torch.testing.assert_close(doubly_stochastic_penalty(padded, mask), expected)


@pytest.fixture
def clips(request):
    """Two clips of 4 and 2 valid steps with absurd logits behind the mask."""
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits[1, 2:] = torch.tensor([1e3, -1e3, 0.0])
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    return logits, torch.tensor([2, 1]), mask


def test_cross_entropy_is_the_mean_over_valid_steps_then_over_clips(clips):
    logits, labels, mask = clips

    loss = sequence_cross_entropy(logits, labels, mask)

    log_probs = logits.log_softmax(-1)
    long, short = -log_probs[0, :, 2].mean(), -log_probs[1, :2, 1].mean()
    torch.testing.assert_close(loss, (long + short) / 2)


def test_class_weights_weigh_clips(clips):
    logits, labels, mask = clips
    alone = [sequence_cross_entropy(*(part[i : i + 1] for part in clips)) for i in range(2)]

    loss = sequence_cross_entropy(
        logits, labels, mask, class_weights=torch.tensor([7.0, 1.0, 3.0], dtype=torch.float64)
    )

    torch.testing.assert_close(loss, (3 * alone[0] + 1 * alone[1]) / 2)


def test_label_smoothing_and_single_step_logits_agree_with_torch(clips):
    logits, labels, mask = clips
    single = logits[:, :1]

    loss = sequence_cross_entropy(single, labels, mask, label_smoothing=0.1)

    expected = cross_entropy(single[:, 0], labels, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)


def test_half_precision_logits_give_a_float32_loss(clips):
    logits, labels, mask = clips

    loss = sequence_cross_entropy(logits.bfloat16(), labels, mask)

    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(sequence_cross_entropy(*clips).item(), abs=0.02)


def test_logits_behind_the_mask_get_no_gradient(clips):
    logits, labels, mask = clips
    logits.requires_grad_()

    sequence_cross_entropy(logits, labels, mask).backward()

    assert logits.grad[~mask].abs().max() == 0
    assert logits.grad[mask].abs().min() > 0


LAST_N = [(None, 4, 2), (1, 1, 1), (3, 3, 2)]  # last_n, steps used of the long and of the short


@pytest.mark.parametrize(("last_n", "of_long", "of_short"), LAST_N)
def test_clip_probabilities_average_the_last_valid_steps(clips, last_n, of_long, of_short):
    logits, _, mask = clips
    probs = logits.softmax(-1)

    averaged = clip_probabilities(logits, mask, last_n=last_n)

    expected = [probs[0, 4 - of_long :].mean(0), probs[1, 2 - of_short : 2].mean(0)]
    torch.testing.assert_close(averaged, torch.stack(expected))


def test_single_step_probabilities_are_their_softmax(clips):
    logits, _, mask = clips

    averaged = clip_probabilities(logits[:, :1], mask, last_n=16)

    torch.testing.assert_close(averaged, logits[:, 0].softmax(-1))


def test_steps_that_fit_neither_one_nor_the_mask_are_refused(clips):
    logits, labels, mask = clips
    message = r"1 step or one per frame of the mask \(4\), got 3"

    with pytest.raises(ValueError, match=message):
        sequence_cross_entropy(logits[:, :3], labels, mask)
    with pytest.raises(ValueError, match=message):
        clip_probabilities(logits[:, :3], mask)


def test_last_n_below_one_is_refused(clips):
    logits, _, mask = clips

    with pytest.raises(ValueError, match="last_n must be at least 1, or None for all steps, got 0"):
        clip_probabilities(logits, mask, last_n=0)
