import pytest
import torch
from torch.nn.functional import one_hot

from tests import planted
from tests.batches import batch_of, random_batch
from tests.oracles import TIGHT, load_oracle
from train.batch import Batch, InputShape
from train.heads import build_head
from train.losses import doubly_stochastic_penalty, sequence_cross_entropy

FORMS = ["location", "content"]


def soft_attention(*, grid=3, dim=6, **options):
    torch.manual_seed(1)
    head = build_head(
        "soft-attention",
        shape=InputShape({"top": (grid, dim)}),
        num_classes=3,
        **{"hidden": 4, "attention_size": dim} | options,
    )
    return head.double().eval()


# --- Agreement with independent code -------------------------------------------------------------


def torch_gate_order(stacked_ifog):
    i, f, o, g = stacked_ifog.chunk(4)
    return torch.cat([i, f, g, o])


def common_weights(oracle):
    return {
        "initial_state.to_hidden.weight": oracle["init_h_weight"].reshape(-1, 6),
        "initial_state.to_hidden.bias": oracle["init_h_bias"].reshape(-1),
        "initial_state.to_cell_state.weight": oracle["init_c_weight"].reshape(-1, 6),
        "initial_state.to_cell_state.bias": oracle["init_c_bias"].reshape(-1),
        "output.hidden.weight": oracle["hidden_weight"],
        "output.hidden.bias": oracle["hidden_bias"],
        "output.classify.weight": oracle["out_weight"],
        "output.classify.bias": oracle["out_bias"],
    }


def location_weights(oracle):
    weights = {"attend.score.weight": oracle["loc_weight"]}
    for layer in range(3):
        prefix = f"lstm.layers.{layer}"
        weights[f"{prefix}.from_input.weight"] = oracle[f"lstm{layer}_weight_ih"]
        weights[f"{prefix}.from_input.bias"] = oracle[f"lstm{layer}_bias"]
        weights[f"{prefix}.weight_hh"] = oracle[f"lstm{layer}_weight_hh"]
    return weights


def content_weights(oracle):
    return {
        "attend.keys.weight": oracle["att_x_weight"],
        "attend.keys.bias": oracle["att_x_bias"],
        "attend.query.weight": oracle["att_h_weight"],
        "attend.score.weight": oracle["att_out_weight"].unsqueeze(0),
        "lstm.layers.0.from_input.weight": torch_gate_order(oracle["lstm_weight_ih_ifog"]),
        "lstm.layers.0.from_input.bias": torch_gate_order(oracle["lstm_bias_ifog"]),
        "lstm.layers.0.weight_hh": torch_gate_order(oracle["lstm_weight_hh_ifog"]),
    }


ORACLES = [("location", 3, location_weights), ("content", 1, content_weights)]


@pytest.mark.parametrize(("form", "layers", "own_weights"), ORACLES)
def test_agrees_with_independent_code(form, layers, own_weights):
    oracle = load_oracle(f"soft_attention_{form}")
    head = soft_attention(attention=form, layers=layers)
    head.load_state_dict(common_weights(oracle) | own_weights(oracle))

    output = head(batch_of(oracle["cubes"].reshape(2, 5, 3, 3, 6)))

    torch.testing.assert_close(output.logits, oracle["logits"], **TIGHT)
    torch.testing.assert_close(output.maps["spatial"].flatten(2), oracle["attention"], **TIGHT)


def test_penalty_agrees_with_independent_code():
    oracle = load_oracle("soft_attention_location")
    maps = oracle["attention"].reshape(2, 5, 3, 3)

    penalty = doubly_stochastic_penalty(maps, torch.ones(2, 5, dtype=torch.bool))

    torch.testing.assert_close(penalty, oracle["doubly_stochastic"], rtol=1e-8, atol=0)


# --- Properties ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_a_distribution_over_cells(form):
    spatial = soft_attention(attention=form)(random_batch()).maps["spatial"]

    assert spatial.min() > 0
    torch.testing.assert_close(spatial.sum((2, 3)), torch.ones(2, 4, dtype=torch.float64))


@pytest.mark.parametrize("layers", [1, 2])
def test_location_attention_without_weights_is_the_average_lstm(layers):
    shape = InputShape({"top": (7, 6)})
    average = build_head("avg-lstm", shape=shape, num_classes=3, hidden=4, layers=layers)
    attentive = soft_attention(grid=7, layers=layers)
    average.double().eval()
    tied = average.state_dict()
    untied = attentive.load_state_dict(tied, strict=False)
    torch.nn.init.zeros_(attentive.attend.score.weight)
    batch = random_batch(grid=7)

    output = attentive(batch)

    assert untied.missing_keys == ["attend.score.weight"]
    torch.testing.assert_close(output.maps["spatial"], torch.full_like(batch.top[..., 0], 1 / 49))
    torch.testing.assert_close(output.logits, average(batch).logits, rtol=1e-6, atol=1e-9)


def test_permuting_cells_permutes_content_weights_and_nothing_else():
    head = soft_attention(attention="content")
    batch = random_batch()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    permuted = batch_of(batch.top.flatten(2, 3)[:, :, order].reshape(batch.top.shape))

    before, after = head(batch), head(permuted)

    assert before.maps["spatial"].std() > 1e-3
    torch.testing.assert_close(
        after.maps["spatial"].flatten(2), before.maps["spatial"].flatten(2)[:, :, order]
    )
    torch.testing.assert_close(after.logits, before.logits)


def test_permuting_cells_of_later_frames_leaves_the_first_location_weights():
    head = soft_attention(attention="location")
    batch = random_batch()
    flipped = batch_of(batch.top.flip(3))

    before, after = head(batch).maps["spatial"], head(flipped).maps["spatial"]

    torch.testing.assert_close(before[:, 0], after[:, 0])  # h_0 knows the mean cube only
    assert (before[:, 1] - after[:, 1]).abs().max() > 1e-6


def test_no_attention_tells_the_cells_of_a_constant_cube_apart():
    head = soft_attention(attention="location")
    frames = torch.randn(2, 4, 1, 1, 6, generator=torch.Generator().manual_seed(3)).double()
    batch = batch_of(frames.expand(2, 4, 3, 3, 6))
    corner = one_hot(torch.zeros(2, 4, dtype=torch.long), 9).double().reshape(2, 4, 3, 3)

    torch.testing.assert_close(head(batch).logits, head(batch, attention=corner).logits)


@pytest.mark.parametrize("form", FORMS)
def test_its_own_weights_given_back_change_nothing(form):
    head, batch = soft_attention(attention=form, layers=2), random_batch()
    computed = head(batch)

    replaced = head(batch, attention=computed.maps["spatial"])

    torch.testing.assert_close(replaced.logits, computed.logits)
    torch.testing.assert_close(replaced.losses, computed.losses)


@pytest.mark.parametrize("form", FORMS)
def test_given_attention_can_be_optimised(form):
    head, batch = soft_attention(attention=form), random_batch()
    free = torch.full((2, 4, 3, 3), 1 / 9, dtype=torch.float64, requires_grad=True)

    output = head(batch, attention=free)
    output.logits.sum().backward()

    torch.testing.assert_close(output.maps["spatial"], free)
    assert free.grad.abs().min() > 0


def test_no_inverse_temperature_looks_everywhere_alike_and_a_large_one_at_one_cell():
    def sharpest(inverse_temperature):
        head = soft_attention(attention="content", inverse_temperature=inverse_temperature)
        return head(random_batch()).maps["spatial"].amax((2, 3)).min().item()

    assert sharpest(0) == pytest.approx(1 / 9)
    assert sharpest(1e4) > 0.999


def test_lambda_weighs_the_penalty_as_in_the_formula_of_the_paper():
    head, batch = soft_attention(doubly_stochastic=10), random_batch()
    clip = batch_of(batch.top[:1])
    labels = torch.tensor([1])

    output = head(clip)
    ours = sequence_cross_entropy(output.logits, labels, clip.mask)
    ours += head.loss_weights["doubly_stochastic"] * output.losses["doubly_stochastic"]

    summed = -output.logits.log_softmax(-1)[0, :, 1].sum()
    penalty = (1 - output.maps["spatial"].sum(1)).square().sum()
    torch.testing.assert_close(4 * ours, summed + 10 * penalty)


def test_the_penalty_of_a_padded_clip_is_divided_by_its_valid_frames():
    head, batch = soft_attention(), random_batch()
    mask = batch.mask.clone()
    mask[1, 2:] = False
    padded = Batch(cubes=batch.cubes, diffs=None, mask=mask)

    alone = [head(batch_of(batch.top[:1])), head(batch_of(batch.top[1:, :2]))]

    expected = torch.stack([output.losses["doubly_stochastic"] for output in alone]).mean()
    torch.testing.assert_close(head(padded).losses["doubly_stochastic"], expected)


# --- Learning ------------------------------------------------------------------------------------


def trained_on_hidden_cells(name, **options):
    torch.manual_seed(0)
    shape = InputShape({"top": (planted.GRID, planted.NUM_CLASSES + 1)})
    head = build_head(name, shape=shape, num_classes=planted.NUM_CLASSES, **options)
    return planted.train(head, planted.hidden_cell)


def test_content_attention_finds_the_planted_cell():
    options = {"attention": "content", "attention_size": planted.NUM_CLASSES + 1, "hidden": 16}
    head = trained_on_hidden_cells("soft-attention", **options, dropout=0)

    accuracy, output, marked = planted.evaluate(head, planted.hidden_cell)

    assert accuracy > 0.95
    assert planted.share_on(marked, output.maps["spatial"], axes=(2, 3)) > 0.8


@pytest.mark.parametrize("case", [("mean-pool", {}), ("avg-lstm", {"hidden": 16, "dropout": 0})])
def test_pooling_misses_the_planted_cell(case):
    name, options = case

    accuracy, *_ = planted.evaluate(trained_on_hidden_cells(name, **options), planted.hidden_cell)

    assert accuracy < 0.5
