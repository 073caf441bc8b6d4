"""Saliency mask, temporal attention, ConvLSTM and their regularisers."""

import pytest
import torch
from torch import nn

from features_store.errors import UsageError
from tests import planted
from tests.batches import batch_of, padded_batch, randn, random_batch
from tests.oracles import TIGHT, load_oracle
from train.data.batch import Batch, InputShape
from train.fitting.state import training_loss
from train.fitting.tasks import SINGLE_LABEL
from train.heads import build_head
from train.heads.blocks.cell_attention import ContentAttention
from train.heads.blocks.penalties import (
    contrast_penalty,
    root_mean_unimodality_penalty,
    size_penalty,
    total_variation_penalty,
    unimodality_penalty,
)
from train.heads.blocks.recurrent import ConvLSTMCell
from train.heads.blocks.saliency import LinearEnergy


def saliency_convlstm(*, grid=3, dim=6, **options):
    torch.manual_seed(1)
    shape = InputShape({"top": (grid, dim)})
    head = build_head("saliency-convlstm", shape=shape, num_classes=3, hidden=4, **options)
    return head.double().eval()


# --- Agreement with independent code -------------------------------------------------------------


def conv_lstm_of(weight, bias, *, dim):
    cell = ConvLSTMCell(dim, len(bias) // 4).double()
    weights = {
        "from_input.weight": weight[:, :dim],
        "from_hidden.weight": weight[:, dim:],
        "from_hidden.bias": bias,
    }
    cell.load_state_dict(weights)
    return cell


def test_the_conv_lstm_agrees_with_independent_code():
    oracle = load_oracle("conv_lstm")
    cell = conv_lstm_of(oracle["weight"], oracle["bias"], dim=6)
    hidden = cell_state = torch.zeros_like(oracle["hidden_bt_chw"][:, 0])

    for t, frame in enumerate(oracle["inputs_bt_chw"].unbind(1)):
        gates = cell.from_input(frame) + cell.from_hidden(hidden)
        hidden, cell_state = cell.step(gates, cell_state)

        torch.testing.assert_close(hidden, oracle["hidden_bt_chw"][:, t], **TIGHT)
        torch.testing.assert_close(cell_state, oracle["cell_bt_chw"][:, t], **TIGHT)


def test_regularisers_agree_with_independent_code():
    oracle = load_oracle("saliency_regularisers")
    saliency, weights = oracle["mask"], oracle["temporal_weights"]
    valid = torch.ones(weights.shape, dtype=torch.bool)

    found = {
        "total_variation_sum": total_variation_penalty(saliency, valid).sum(),
        "contrast": contrast_penalty(saliency, valid).mean(),
        "unimodality_sum": unimodality_penalty(weights, valid),
        "unimodality_sqrt_mean": root_mean_unimodality_penalty(weights, valid),
    }

    for name, value in found.items():
        torch.testing.assert_close(value, oracle[name], rtol=1e-8, atol=0)


# --- ConvLSTM ------------------------------------------------------------------------------------


def test_on_a_single_cell_the_conv_lstm_is_an_lstm():
    cell, lstm = ConvLSTMCell(6, 4).double(), nn.LSTMCell(6, 4).double()

    def reorder(rows):
        i, f, o, g = rows.chunk(4)
        return torch.cat([i, f, g, o])

    with torch.no_grad():  # of a 3×3 kernel a single cell meets the centre alone
        lstm.weight_ih.copy_(reorder(cell.from_input.weight[:, :, 1, 1]))
        lstm.weight_hh.copy_(reorder(cell.from_hidden.weight[:, :, 1, 1]))
        lstm.bias_ih.zero_()
        lstm.bias_hh.copy_(reorder(cell.from_hidden.bias))
    frame, hidden, cell_state = randn(2, 6), randn(2, 4, seed=1), randn(2, 4, seed=2)

    gates = cell.from_input(frame[..., None, None]) + cell.from_hidden(hidden[..., None, None])
    stepped = cell.step(gates, cell_state[..., None, None])

    expected = lstm(frame, (hidden, cell_state))
    torch.testing.assert_close(tuple(part[..., 0, 0] for part in stepped), expected)


def test_inside_the_border_the_conv_lstm_treats_all_cells_of_a_constant_frame_alike():
    cell = ConvLSTMCell(6, 4).double()
    frame = randn(2, 6, 1, 1).expand(2, 6, 7, 7)
    zeros = torch.zeros(2, 4, 7, 7, dtype=torch.float64)

    hidden, cell_state = cell.step(cell.from_input(frame) + cell.from_hidden(zeros), zeros)
    hidden, _ = cell.step(cell.from_input(frame) + cell.from_hidden(hidden), cell_state)

    inner = hidden[:, :, 2:5, 2:5]  # two steps see two cells far
    torch.testing.assert_close(inner, inner[:, :, :1, :1].expand_as(inner))
    assert (hidden - hidden[:, :, 3:4, 3:4]).abs().max() > 1e-3


# --- Regularisers --------------------------------------------------------------------------------


def frame_of(values):
    return torch.as_tensor(values, dtype=torch.float64).expand(1, 1, 7, 7)


ONE_FRAME = torch.ones(1, 1, dtype=torch.bool)
COLUMNS = torch.arange(7).expand(7, 7)
VARIATIONS = [
    pytest.param(frame_of(0.3), 0, id="constant"),
    pytest.param(frame_of(COLUMNS > 2), 7, id="step edge"),
    pytest.param(frame_of((COLUMNS + COLUMNS.T) % 2), 84, id="checkerboard"),
    pytest.param(0.5 * frame_of((COLUMNS + COLUMNS.T) % 2), 42, id="half the contrast"),
]


@pytest.mark.parametrize(("saliency", "expected"), VARIATIONS)
def test_total_variation_has_its_closed_form_value(saliency, expected):
    assert total_variation_penalty(saliency, ONE_FRAME).item() == pytest.approx(expected)


CONTRASTS = [(0.0, 0.0), (0.2, 4.9), (0.5, 0.0), (0.8, -19.6), (1.0, -24.5)]


@pytest.mark.parametrize(("value", "expected"), CONTRASTS)
def test_contrast_of_a_constant_frame_has_its_closed_form_value(value, expected):
    assert contrast_penalty(frame_of(value), ONE_FRAME).item() == pytest.approx(expected)


def test_the_size_of_a_mask_of_ones_is_the_number_of_cells_of_valid_frames():
    head, batch = saliency_convlstm(), padded_batch()
    ones = torch.ones_like(batch.top[..., 0])

    output = head(batch, attention=ones)

    assert size_penalty(ones, batch.mask).tolist() == [4 * 9, 2 * 9]
    assert output.losses["mask_l1"].item() == 27


def test_the_size_of_the_mask_counts_by_its_weight():
    batch, labels = padded_batch(), torch.tensor([0, 2])
    plain, weighed = saliency_convlstm(), saliency_convlstm(mask_l1=0.5)
    size = plain(batch).losses["mask_l1"]

    losses = [training_loss(head, batch, labels, None, SINGLE_LABEL) for head in (plain, weighed)]

    torch.testing.assert_close(losses[1] - losses[0], 0.5 * size)
    assert size > 1


def test_default_total_variation_is_the_published_weight_of_a_sum_over_thirty_clips():
    batch = batch_of(randn(30, 2, 3, 3, 6))
    ours = saliency_convlstm()
    published = saliency_convlstm(scaling="code", total_variation=1e-5)

    losses = [
        head.loss_weights["total_variation"] * head(batch).losses["total_variation"]
        for head in (ours, published)
    ]

    torch.testing.assert_close(losses[0], losses[1])


def normalised(weights):
    weights = torch.as_tensor(weights, dtype=torch.float64)
    return (weights / weights.sum()).unsqueeze(0)


UNIMODALITIES = [
    pytest.param(torch.ones(9), False, id="uniform"),
    pytest.param((-(torch.linspace(-2, 2, 9).double() ** 2)).exp(), False, id="gaussian"),
    pytest.param([1.0, 2, 4, 8, 16], False, id="geometric"),
    pytest.param([1.0, 5, 1, 5, 1], True, id="bimodal"),
    pytest.param([1.0, 1, 10, 1, 1], True, id="unimodal with heavy tails"),
]


@pytest.mark.parametrize(("weights", "is_penalised"), UNIMODALITIES)
def test_unimodality_penalises_what_is_not_log_concave(weights, is_penalised):
    weights = normalised(weights)
    valid = torch.ones(weights.shape, dtype=torch.bool)

    for penalty in (unimodality_penalty, root_mean_unimodality_penalty):
        assert (penalty(weights, valid).item() > 1e-6) == is_penalised


def test_the_gradient_of_unimodality_is_finite_where_nothing_is_violated():
    weights = normalised(torch.ones(5)).requires_grad_()
    valid = torch.ones(1, 5, dtype=torch.bool)

    root_mean_unimodality_penalty(weights, valid).backward()

    assert weights.grad.tolist() == [[0] * 5]


def test_masked_frames_do_not_enter_the_regularisers():
    oracle = load_oracle("saliency_regularisers")
    valid = torch.arange(6).expand(3, 6) < torch.tensor([[6], [4], [2]])
    cut = [oracle["mask"][1:2, :4], oracle["temporal_weights"][1:2, :4], valid[1:2, :4]]

    for penalty, values in ((total_variation_penalty, 0), (unimodality_penalty, 1)):
        whole = [oracle["mask"], oracle["temporal_weights"]][values]
        expected = penalty(cut[values], cut[2])
        torch.testing.assert_close(penalty(whole, valid)[1:2], expected)
    roots = root_mean_unimodality_penalty(oracle["temporal_weights"], valid)
    alone = [
        root_mean_unimodality_penalty(
            oracle["temporal_weights"][i : i + 1, :n], valid[i : i + 1, :n]
        )
        for i, n in ((0, 6), (1, 4))
    ]
    torch.testing.assert_close(roots, (4 * alone[0] + 2 * alone[1]) / 6)


def test_scaling_by_batch_does_not_depend_on_the_batch_size_and_that_of_the_code_does():
    batch = random_batch()
    twice = batch_of(batch.top.repeat(2, 1, 1, 1, 1))

    for scaling, factor in (("batch", 1), ("code", 2)):
        head = saliency_convlstm(scaling=scaling)
        once, doubled = head(batch).losses, head(twice).losses
        expected = once | {"total_variation": factor * once["total_variation"]}
        torch.testing.assert_close(doubled, expected)


# --- Saliency and temporal attention -------------------------------------------------------------


def test_the_mask_is_between_zero_and_one_and_not_normalised():
    spatial = saliency_convlstm()(random_batch()).maps["spatial"]

    assert spatial.min() > 0
    assert spatial.max() < 1
    assert (spatial.sum((2, 3)) - 1).abs().min() > 0.1


def test_temporal_weights_are_a_distribution_over_valid_frames():
    temporal = saliency_convlstm()(padded_batch()).maps["temporal"]

    torch.testing.assert_close(temporal.sum(1), torch.ones(2, dtype=torch.float64))
    assert temporal[1, 2:].tolist() == [0, 0]


def test_a_single_frame_gets_all_the_weight():
    assert saliency_convlstm()(random_batch(num_frames=1)).maps["temporal"].tolist() == [[1], [1]]


def plain_conv_lstm(head, cubes):
    """What the head computes when nothing is masked and all frames count alike."""
    frames = cubes.permute(0, 1, 4, 2, 3)
    mean = frames.mean(1)
    hidden, cell_state = head.initial_hidden(mean), head.initial_cell_state(mean)
    seen = []
    for _ in range(cubes.shape[1]):
        from_input = head.conv_lstm.from_input(mean)
        gates = from_input + head.conv_lstm.from_hidden(hidden)
        hidden, cell_state = head.conv_lstm.step(gates, cell_state)
        seen.append(hidden.mean((2, 3)))
    return head.classify(torch.stack(seen).mean(0))


def test_a_mask_of_ones_and_equal_energies_leave_a_plain_conv_lstm():
    head, batch = saliency_convlstm(), random_batch()
    nn.init.zeros_(head.energy.score.weight)

    output = head(batch, attention=torch.ones_like(batch.top[..., 0]))

    torch.testing.assert_close(output.maps["temporal"], torch.full((2, 4), 0.25).double())
    torch.testing.assert_close(output.logits[:, 0], plain_conv_lstm(head, batch.top))


def test_without_a_mask_it_is_the_head_with_a_mask_of_ones():
    whole, part, batch = (
        saliency_convlstm(),
        saliency_convlstm(attention="temporal"),
        random_batch(),
    )
    spare = part.load_state_dict(whole.state_dict(), strict=False)

    output = part(batch)

    expected = whole(batch, attention=torch.ones_like(batch.top[..., 0]))
    assert {name.split(".")[0] for name in spare.unexpected_keys} == {"saliency"}
    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(output.maps, expected.maps)


def test_without_temporal_attention_frames_come_one_by_one_and_the_last_state_is_read():
    head, batch = saliency_convlstm(attention="spatial"), padded_batch()
    output = head(batch)
    for clip, num_frames in ((0, 4), (1, 2)):
        frames = batch.top[clip : clip + 1, :num_frames].permute(0, 1, 4, 2, 3)
        frames = frames * output.maps["spatial"][clip : clip + 1, :num_frames].unsqueeze(2)
        mean = frames.mean(1)
        hidden, cell_state = head.initial_hidden(mean), head.initial_cell_state(mean)
        for frame in frames.unbind(1):
            from_input = head.conv_lstm.from_input(frame)
            gates = from_input + head.conv_lstm.from_hidden(hidden)
            hidden, cell_state = head.conv_lstm.step(gates, cell_state)

        logits = head.classify(hidden.mean((2, 3)))
        torch.testing.assert_close(output.logits[clip], logits)
        equal = [1 / num_frames] * num_frames + [0] * (4 - num_frames)
        assert output.maps["temporal"][clip].tolist() == pytest.approx(equal)


def states_from_zeros(head, cubes):
    """Hidden states (T, K, K) of one clip whose frames come one by one, from zeros: (1, T, n)."""
    hidden = cell_state = torch.zeros(1, 4, 3, 3, dtype=torch.float64)
    seen = []
    for frame in cubes.permute(1, 0, 4, 2, 3):
        gates = head.conv_lstm.from_input(frame) + head.conv_lstm.from_hidden(hidden)
        hidden, cell_state = head.conv_lstm.step(gates, cell_state)
        seen.append(hidden.mean((2, 3)))
    return torch.stack(seen, dim=1)


@pytest.mark.parametrize("attention", ["spatio-temporal", "spatial", "temporal"])
def test_temporal_attention_after_the_conv_lstm_weighs_its_hidden_states(attention):
    head, batch = saliency_convlstm(temporal="after", attention=attention), padded_batch()

    output = head(batch)

    spatial = output.maps["spatial"].unsqueeze(-1)
    for clip, num_frames in ((0, 4), (1, 2)):
        cubes = (spatial * batch.top)[clip : clip + 1, :num_frames]
        states = states_from_zeros(head, cubes)
        read, weights = states[:, -1], torch.full((num_frames,), 1 / num_frames).double()
        if attention != "spatial":
            weights = (states @ head.score_states.weight[0]).softmax(1)[0]
            read = weights @ states
        torch.testing.assert_close(output.logits[clip], head.classify(read))
        torch.testing.assert_close(output.maps["temporal"][clip, :num_frames], weights)
        assert output.maps["temporal"][clip, num_frames:].tolist() == [0] * (4 - num_frames)


def test_after_a_single_frame_its_state_has_all_the_weight():
    whole, last = (
        saliency_convlstm(temporal="after", attention=attention)
        for attention in ("spatio-temporal", "spatial")
    )
    last.load_state_dict(whole.state_dict(), strict=False)
    batch = random_batch(num_frames=1)

    output = whole(batch)

    assert output.maps["temporal"].tolist() == [[1], [1]]
    torch.testing.assert_close(output.logits, last(batch).logits)


def test_after_the_conv_lstm_there_is_one_form_of_energy():
    with pytest.raises(UsageError, match="energy=linear is of temporal=before"):
        saliency_convlstm(temporal="after", energy="linear")


def as_lstm(cell):
    """torch's own LSTM cell with the weights of ours; its gates are i, f, g, o."""
    lstm = nn.LSTMCell(6, 4).double()

    def reorder(rows):
        i, f, o, g = rows.squeeze().chunk(4)
        return torch.cat([i, f, g, o])

    with torch.no_grad():
        lstm.weight_ih.copy_(reorder(cell.from_input.weight))
        lstm.weight_hh.copy_(reorder(cell.from_hidden.weight))
        lstm.bias_ih.zero_()
        lstm.bias_hh.copy_(reorder(cell.from_hidden.bias))
    return lstm


@pytest.mark.parametrize("temporal", ["before", "after"])
def test_the_recurrence_of_vectors_is_an_lstm_of_pooled_frames(temporal):
    head = saliency_convlstm(recurrence="vector", attention="spatial", temporal=temporal)
    batch, lstm = random_batch(), as_lstm(head.conv_lstm)

    output = head(batch)

    frames = output.maps["spatial"].unsqueeze(-1) * batch.top
    state = [torch.zeros(2, 4, dtype=torch.float64)] * 2
    if temporal == "before":
        mean = frames.mean(1).permute(0, 3, 1, 2)
        state = [s(mean).mean((2, 3)) for s in (head.initial_hidden, head.initial_cell_state)]
    for frame in frames.mean((2, 3)).unbind(1):
        state = lstm(frame, state)
    torch.testing.assert_close(output.logits[:, 0], head.classify(state[0]))


def test_the_recurrence_of_vectors_attends_before_each_step_too():
    head, batch = saliency_convlstm(recurrence="vector"), random_batch()

    output = head(batch)

    pooled = (output.maps["spatial"].unsqueeze(-1) * batch.top).mean((2, 3))
    frames = (output.maps["spatial"].unsqueeze(-1) * batch.top).mean(1).permute(0, 3, 1, 2)
    state = [s(frames).mean((2, 3)) for s in (head.initial_hidden, head.initial_cell_state)]
    lstm, seen = as_lstm(head.conv_lstm), []
    for _ in range(4):
        weights = head.energy(state[0], head.energy.keys(pooled)).softmax(1)
        state = lstm((weights.unsqueeze(2) * pooled).sum(1), state)
        seen.append(state[0])
    torch.testing.assert_close(output.logits[:, 0], head.classify(torch.stack(seen).mean(0)))


def test_its_own_mask_given_back_changes_nothing():
    head, batch = saliency_convlstm(), random_batch()
    computed = head(batch)

    replaced = head(batch, attention=computed.maps["spatial"])

    torch.testing.assert_close(replaced.logits, computed.logits)
    torch.testing.assert_close(replaced.losses, computed.losses)


def test_only_tanh_energies_let_the_hidden_state_move_the_weights():
    pooled = randn(2, 5, 6)
    for energy, is_moved in (
        (ContentAttention(4, 6, 4), True),
        (LinearEnergy(6, detached=False), False),
    ):
        energy.double()
        keys = energy.keys(pooled)
        first, second = (energy(randn(2, 4, seed=s), keys).softmax(-1) for s in (1, 2))
        assert ((first - second).abs().max() > 1e-3) == is_moved


@pytest.mark.parametrize(
    ("form", "learns"), [("tanh", True), ("linear", True), ("detached", False)]
)
def test_detached_energies_get_no_gradient_from_any_loss(form, learns):
    head, batch = saliency_convlstm(energy=form), random_batch()

    output = head(batch)
    (output.logits.sum() + output.losses["unimodality"]).backward()

    gradients = [parameter.grad for parameter in head.energy.parameters()]
    assert all((g is not None and g.abs().max() > 0) == learns for g in gradients)


def test_detached_and_linear_energies_compute_the_same():
    linear, detached = saliency_convlstm(energy="linear"), saliency_convlstm(energy="detached")
    detached.load_state_dict(linear.state_dict())

    torch.testing.assert_close(detached(random_batch()).logits, linear(random_batch()).logits)


def test_padding_does_not_enter_the_batch_statistics_in_training():
    batch = padded_batch()
    garbage = batch.top.masked_fill(~batch.mask.reshape(2, 4, 1, 1, 1), 1e3)
    heads = [saliency_convlstm(dropout=0).train() for _ in range(2)]

    clean = heads[0](batch)
    dirty = heads[1](Batch(cubes={"top": garbage}, diffs=None, mask=batch.mask))

    torch.testing.assert_close(dirty.logits, clean.logits)
    torch.testing.assert_close(heads[1].state_dict(), heads[0].state_dict())


def test_a_last_batch_of_one_clip_of_one_cell_trains():
    head = saliency_convlstm(grid=1).train()

    output = head(batch_of(randn(1, 1, 1, 1, 6)))
    output.logits.sum().backward()

    assert output.logits.isfinite().all()


def test_dropout_drops_a_channel_of_a_whole_clip():
    head = saliency_convlstm(dim=64, dropout=0.5).train()
    cubes = torch.ones(3, 4, 2, 2, 64, dtype=torch.float64)

    dropped = head._drop_channels(cubes)

    assert dropped.unique().tolist() == [0, 2]
    assert torch.equal(dropped, dropped[:, :1, :1, :1].expand_as(cubes))
    assert not torch.equal(dropped[0], dropped[1])


# --- Learning ------------------------------------------------------------------------------------


def fresh(*, grid):
    torch.manual_seed(0)
    shape = InputShape({"top": (grid, planted.NUM_CLASSES + 1)})
    options = {"hidden": 8, "dropout": 0}
    return build_head("saliency-convlstm", shape=shape, num_classes=planted.NUM_CLASSES, **options)


def test_the_mask_finds_the_planted_cell():
    head = fresh(grid=planted.GRID)

    planted.train(head, planted.hidden_cell, num_steps=100)
    accuracy, output, marked = planted.evaluate(head, planted.hidden_cell)

    assert accuracy > 0.95
    assert planted.share_on(marked, output.maps["spatial"], axes=(2, 3)) > 0.8


def test_temporal_attention_finds_the_planted_interval():
    head = fresh(grid=planted.INTERVAL_GRID)

    planted.train(head, planted.marked_interval, num_steps=100, batch_size=32)
    accuracy, output, inside = planted.evaluate(head, planted.marked_interval)

    assert accuracy > 0.95
    assert planted.share_on(inside, output.maps["temporal"], axes=1) > 0.8
