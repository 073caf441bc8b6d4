"""Attentive probe and transformer encoder."""

import pytest
import torch
from torch import nn
from torch.nn.functional import layer_norm

from features_store.errors import UsageError
from tests import planted
from tests.batches import batch_of, padded_batch, randn, random_batch
from train.data.batch import Batch, InputShape
from train.heads import build_head
from train.heads.attentive_probe import QueryPooling, Tokens
from train.heads.transformer import sinusoidal_positions


def build(name, *, grid=3, dim=6, num_classes=3, **options):
    torch.manual_seed(1)
    shape = InputShape({"top": (grid, dim)})
    return build_head(name, shape=shape, num_classes=num_classes, **{"hidden": 8} | options)


# --- Attentive probe -----------------------------------------------------------------------------


def test_tokens_are_layer_normalised():
    tokens, probe, weights = randn(3, 10, 6) + 5, randn(2, 6, seed=1), randn(3, 2, 10, seed=2)
    variance, mean = torch.var_mean(tokens, -1, correction=0)
    ours, theirs = Tokens(tokens, mean, (variance + 1e-5).rsqrt()), layer_norm(tokens, (6,))

    torch.testing.assert_close(ours.products(probe), probe @ theirs.mT)
    torch.testing.assert_close(ours.weighted_sum(weights), weights @ theirs)


def test_pooling_is_multi_head_attention_of_torch():
    pool, tokens = QueryPooling(6, 8, num_heads=2).double(), randn(3, 10, 6)
    nn.init.normal_(pool.value.bias)
    theirs = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True).double()
    with torch.no_grad():
        theirs.q_proj_weight.copy_(torch.eye(8))
        theirs.k_proj_weight.copy_(pool.key.weight)
        theirs.v_proj_weight.copy_(pool.value.weight)
        theirs.in_proj_bias.zero_()
        theirs.in_proj_bias[16:] = pool.value.bias
        theirs.out_proj.weight.copy_(torch.eye(8))
        theirs.out_proj.bias.zero_()

    as_they_are = Tokens(tokens, torch.zeros(3, 10).double(), torch.ones(3, 10).double())
    weights = pool.scores(as_they_are).softmax(dim=-1)
    pooled = pool(as_they_are, weights)

    expected, their_weights = theirs(pool.query.expand(3, 1, 8), tokens, tokens)
    torch.testing.assert_close(pooled, expected[:, 0])
    torch.testing.assert_close(weights.mean(1), their_weights[:, 0])


def test_probe_weights_are_a_distribution_over_the_cells_of_valid_frames():
    maps = build("attentive-probe").double().eval()(padded_batch()).maps

    ones = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(maps["spatial"].sum((1, 2, 3)), ones)
    torch.testing.assert_close(maps["temporal"], maps["spatial"].sum((2, 3)))
    assert maps["spatial"][1, :2].min() > 0
    assert maps["spatial"][1, 2:].abs().max() == 0


def test_the_probe_knows_no_order_of_cells_or_frames():
    head, batch = build("attentive-probe").double().eval(), random_batch()
    before = head(batch)

    for shuffled in (batch.top.flip(1), batch.top.flip(3)):
        torch.testing.assert_close(head(batch_of(shuffled)).logits, before.logits)
    torch.testing.assert_close(
        head(batch_of(batch.top.flip(1))).maps["spatial"], before.maps["spatial"].flip(1)
    )


def test_the_mean_over_heads_given_back_changes_nothing_with_one_head():
    head, batch = build("attentive-probe", heads=1).double().eval(), random_batch()
    computed = head(batch)

    replaced = head(batch, attention=computed.maps["spatial"])

    torch.testing.assert_close(replaced.logits, computed.logits)


def build_reader(grid):
    size = {"grid": grid, "dim": planted.NUM_CLASSES + 1, "num_classes": planted.NUM_CLASSES}
    return build("attentive-probe", **size, hidden=16, heads=1, dropout=0)


def test_the_probe_finds_the_planted_cell():
    head = build_reader(planted.GRID)

    planted.train(head, planted.hidden_cell)
    accuracy, output, marked = planted.evaluate(head, planted.hidden_cell)

    assert accuracy > 0.95
    # 0.02 if it looked everywhere alike; it need not be sharp to be right.
    assert planted.share_on(marked, output.maps["spatial"], axes=(1, 2, 3)) > 0.5


def test_the_probe_finds_the_planted_interval():
    head = build_reader(planted.INTERVAL_GRID)

    planted.train(head, planted.marked_interval, num_steps=150)
    accuracy, output, inside = planted.evaluate(head, planted.marked_interval)

    assert accuracy > 0.95
    assert planted.share_on(inside, output.maps["temporal"], axes=1) > 0.8


# --- Transformer ---------------------------------------------------------------------------------


def test_only_positions_tell_the_transformer_the_order(monkeypatch):
    head, batch = build("transformer").double().eval(), random_batch()
    reversed_batch = batch_of(batch.top.flip(1))

    moved = (head(reversed_batch).logits - head(batch).logits).abs().max()
    monkeypatch.setattr("train.heads.transformer.sinusoidal_positions", lambda *a, like: 0.0)

    assert moved > 1e-3
    torch.testing.assert_close(head(reversed_batch).logits, head(batch).logits)


@pytest.mark.parametrize("size", [1, 7, 8])
def test_positions_are_sines_and_cosines_of_slowing_rates(size):
    positions = sinusoidal_positions(50, size, like=torch.zeros((), dtype=torch.float64))
    half = (size + 1) // 2

    assert positions.shape == (50, size)
    for index in range(size):
        wave = torch.sin if index < half else torch.cos
        rate = 10_000 ** (-2 * (index % half) / size)
        expected = wave(torch.arange(50.0) * rate).double()
        torch.testing.assert_close(positions[:, index], expected, atol=1e-5, rtol=0)


def test_the_transformer_needs_pooled_frames_only():
    head, batch = build("transformer").double().eval(), random_batch()
    condensed = Batch({}, None, batch.mask, head.condense(batch))

    torch.testing.assert_close(head(condensed).logits, head(batch).logits)


def test_the_transformer_learns_the_order_to_which_the_probe_is_blind():
    size = {"grid": 1, "dim": 3, "num_classes": len(planted.ORDERS)}
    transformer = build("transformer", **size, hidden=16, dropout=0)
    probe = build("attentive-probe", **size, hidden=16, dropout=0)

    for head in (transformer, probe):
        planted.train(head, planted.ordered_segments, num_steps=120, learning_rate=0.01)

    assert planted.evaluate(transformer, planted.ordered_segments)[0] > 0.9
    assert planted.evaluate(probe, planted.ordered_segments)[0] < 0.3


# --- Options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["attentive-probe", "transformer"])
def test_a_size_that_heads_cannot_share_is_refused(name):
    with pytest.raises(UsageError, match=r"'hidden' must be a multiple of heads \(3\), got 8"):
        build(name, heads=3)
