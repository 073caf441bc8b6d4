"""Attention optimised with the correct label: what it may not touch, and that it finds the cell."""

import math

import pytest
import torch

from features_store.errors import UsageError
from tests import planted
from tests.batches import padded_batch, small_tail
from train.attention.optimise import (
    mean_entropy,
    mean_total_variation,
    optimise_attention,
    weights_of,
)
from train.data.batch import Batch, InputShape
from train.fitting.losses import clip_probabilities
from train.heads import build_head, head_class, list_heads

LABELS = torch.tensor([1, 2])
STEPS = 20
VARIANTS = [
    *((name, {}) for name in list_heads() if head_class(name).takes_attention),
    ("soft-attention", {"attention": "content", "layers": 2}),
    ("hm-an", {"attention": "soft", "boundary": "slope"}),
    ("self-attention-pool", {"attention": "spatio-temporal"}),
    ("pyramid-attention", {"attention": "spatio-temporal", "bases": 3}),
]


def build(variant, *, num_classes=3):
    name, options = variant
    torch.manual_seed(1)
    shape = InputShape({"layer0": (3, 6)})
    head = build_head(name, shape=shape, num_classes=num_classes, **options)
    return head.double().eval()


@pytest.fixture(params=VARIANTS, ids=lambda v: "-".join([v[0], *map(str, v[1].values())]))
def head(request):
    return build(request.param)


# --- Over all heads that take attention ----------------------------------------------------------


def test_the_head_is_not_changed(head):
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head.train()

    optimise_attention(head, padded_batch(), LABELS, num_steps=3)

    assert head.training
    torch.testing.assert_close(head.state_dict(), before, rtol=0, atol=0)
    assert all(p.grad is None and p.requires_grad for p in head.parameters())


def test_the_loss_does_not_rise_above_its_start(head):
    found = optimise_attention(head, padded_batch(), LABELS, num_steps=STEPS)

    assert (found.optimised.log_prob >= found.random.log_prob).all()
    # A rate at which every step goes astray: the start is then the best there is.
    wild = optimise_attention(head, padded_batch(), LABELS, num_steps=3, learning_rate=1e3)
    assert (wild.optimised.log_prob >= wild.random.log_prob).all()


def test_the_label_becomes_more_probable(head):
    found = optimise_attention(head, padded_batch(), LABELS, num_steps=STEPS)

    assert (found.optimised.log_prob > found.random.log_prob).all()


def test_attention_has_the_form_that_the_head_takes(head):
    batch = padded_batch()
    found = optimise_attention(head, batch, LABELS, num_steps=3)

    for attention in (found.random.attention, found.optimised.attention):
        assert attention[~batch.mask].abs().max() == 0
        sums = attention.sum((2, 3))
        if head.attention_form == "cell":
            assert attention[batch.mask].min() > 0
            assert attention.max() < 1
        elif head.attention_form == "frame":
            torch.testing.assert_close(sums, batch.mask.double())
        else:
            torch.testing.assert_close(sums.sum(1), torch.ones(2).double())


def test_a_head_s_own_map_has_the_form_that_it_declares(head):
    batch = padded_batch()
    spatial = head(batch).maps["spatial"]

    if head.attention_form == "cell":
        assert 0 < spatial[batch.mask].min() < spatial.max() < 1
    else:
        sums = spatial.sum((2, 3))
        expected = batch.mask.double()
        if head.attention_form == "clip":
            sums, expected = sums.sum(1), torch.ones(2).double()
        if head.head_name == "pyramid-attention":  # its rows have unit length, not unit sum
            assert (sums <= expected + 1e-9).all()
        else:
            torch.testing.assert_close(sums, expected)


def test_the_seed_decides(head):
    first, again, other = (
        optimise_attention(head, padded_batch(), LABELS, num_steps=3, seed=seed).optimised.attention
        for seed in (0, 0, 1)
    )

    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert (first - other).abs().max() > 1e-3


def test_a_clip_is_the_same_alone(head):
    batch = padded_batch()
    alone = Batch({"layer0": batch.top[1:]}, diffs=None, mask=batch.mask[1:])

    together = optimise_attention(head, batch, LABELS, num_steps=3).optimised
    by_itself = optimise_attention(head, alone, LABELS[1:], num_steps=3).optimised

    torch.testing.assert_close(by_itself.attention, together.attention[1:])
    torch.testing.assert_close(by_itself.log_prob, together.log_prob[1:])


def test_own_attention_given_back_says_the_same(head):
    batch = padded_batch()
    own = optimise_attention(head, batch, LABELS, num_steps=1).own

    torch.testing.assert_close(own.attention, head(batch).maps["spatial"])
    steps = own.logits.shape[1]
    expected = own.logits.log_softmax(-1)[torch.arange(2), :, LABELS]
    expected = (expected * batch.mask[:, :steps]).sum(1)
    torch.testing.assert_close(own.log_prob, expected)


@pytest.mark.parametrize("name", [n for n in list_heads() if not head_class(n).takes_attention])
def test_a_head_without_attention_is_refused(name):
    shape = InputShape({"layer0": (3, 8)}, diff_grid=4)
    head = build_head(name, shape=shape, num_classes=3, tail=small_tail(8))

    with pytest.raises(UsageError, match=f"head {name!r} has no attention to optimise"):
        optimise_attention(head, padded_batch(), LABELS)


# --- Measures ------------------------------------------------------------------------------------


def test_entropy_and_variation_of_known_maps():
    mask = torch.tensor([[True, True], [True, True], [True, False]])
    maps = torch.zeros(3, 2, 7, 7, dtype=torch.float64)
    maps[0] = 0.3  # alike, and not a distribution
    maps[1, :, 3, 3] = 1  # one cell
    maps[2, 0, :, :3] = 1  # an edge from top to bottom

    entropy, variation = mean_entropy(maps, mask), mean_total_variation(maps, mask)

    assert entropy.tolist() == pytest.approx([math.log(49), 0, math.log(21)])
    assert variation.tolist() == pytest.approx([0, 4, 7 / 21])


def test_masked_frames_have_no_weight_in_any_form():
    mask = padded_batch().mask
    values = torch.full((2, 4, 3, 3), 50.0)
    values[~mask] = 1e4

    for form in ("frame", "clip", "cell"):
        weights = weights_of(values, mask, form)
        assert weights.isfinite().all()
        assert weights[~mask].abs().max() == 0


# --- A planted case ------------------------------------------------------------------------------


def test_a_misled_head_is_right_when_it_looks_at_the_planted_cell():
    torch.manual_seed(0)
    options = {"attention": "content", "attention_size": planted.NUM_CLASSES + 1, "hidden": 16}
    shape = InputShape({"top": (planted.GRID, planted.NUM_CLASSES + 1)})
    head = build_head(
        "soft-attention", shape=shape, num_classes=planted.NUM_CLASSES, dropout=0, **options
    )
    planted.train(head, planted.hidden_cell)
    batch, labels, where = planted.misleading_mark(32, torch.Generator().manual_seed(5))

    found = optimise_attention(head, batch, labels)

    def share_right(attended):
        probs = clip_probabilities(attended.logits, batch.mask)
        return (probs.argmax(-1) == labels).float().mean().item()

    def mass(attended):
        return planted.share_on(where, attended.attention, axes=(2, 3))

    assert share_right(found.own) == 0
    assert mass(found.own) < 0.1
    # In a few clips the softmax is sharp before it has found the cell, and stays where it is.
    assert share_right(found.optimised) > 0.9
    assert mass(found.optimised) > 0.8
    assert (found.optimised.log_prob > found.own.log_prob).all()
