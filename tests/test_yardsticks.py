"""Attentive probe and transformer encoder."""

import pytest
import torch
from torch import nn

from features_store.errors import UsageError
from tests.planted import evaluate, interval_clips, order_clips, share_on, train
from tests.test_soft_attention import GRID, NUM_CLASSES, batch_of, planted_clips
from train.batch import Batch, InputShape
from train.heads import build_head
from train.heads.attentive_probe import QueryPooling
from train.heads.transformer import sinusoidal_positions


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_batch(*, num_frames=4, grid=3, dim=6):
    return batch_of(randn(2, num_frames, grid, grid, dim))


def build(name, *, grid=3, dim=6, num_classes=3, **options):
    torch.manual_seed(1)
    shape = InputShape({"top": (grid, dim)})
    return build_head(name, shape=shape, num_classes=num_classes, **{"hidden": 8} | options)


# --- Attentive probe -----------------------------------------------------------------------------


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

    weights = pool.scores(tokens).softmax(dim=1)
    pooled = pool(tokens, weights)

    expected, their_weights = theirs(pool.query.expand(3, 1, 8), tokens, tokens)
    torch.testing.assert_close(pooled, expected[:, 0])
    torch.testing.assert_close(weights.mean(-1), their_weights[:, 0])


def test_probe_weights_are_a_distribution_over_the_cells_of_valid_frames():
    batch = random_batch()
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    head = build("attentive-probe").double().eval()

    maps = head(Batch(cubes=batch.cubes, diffs=None, mask=mask)).maps

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


def test_the_probe_finds_the_planted_cell():
    size = {"grid": GRID, "dim": NUM_CLASSES + 1, "num_classes": NUM_CLASSES}
    head = build("attentive-probe", **size, hidden=16, heads=1, dropout=0)

    train(head, planted_clips, num_steps=200, learning_rate=0.02)
    accuracy, output, marked = evaluate(head, planted_clips)

    assert accuracy > 0.95
    # 0.02 if it looked everywhere alike; it need not be sharp to be right.
    assert share_on(output.maps["spatial"], marked) > 0.5


def test_the_probe_finds_the_planted_interval():
    head = build("attentive-probe", num_classes=5, hidden=16, heads=1, dropout=0)

    train(head, interval_clips, num_steps=150, learning_rate=0.02)
    accuracy, output, inside = evaluate(head, interval_clips)

    assert accuracy > 0.95
    assert share_on(output.maps["temporal"], inside) > 0.8


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
    transformer = build("transformer", grid=1, dim=3, num_classes=6, hidden=16, dropout=0)
    probe = build("attentive-probe", grid=1, dim=3, num_classes=6, hidden=16, dropout=0)

    train(transformer, order_clips, num_steps=200, learning_rate=0.01)
    train(probe, order_clips, num_steps=200, learning_rate=0.01)

    assert evaluate(transformer, order_clips)[0] > 0.9
    assert evaluate(probe, order_clips)[0] < 0.3


# --- Options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["attentive-probe", "transformer"])
def test_a_size_that_heads_cannot_share_is_refused(name):
    with pytest.raises(UsageError, match=r"'hidden' must be a multiple of heads \(3\), got 8"):
        build(name, heads=3)
