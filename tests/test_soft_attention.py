import pytest
import torch
from torch.nn.functional import one_hot

from tests import planted
from tests.batches import batch_of, random_batch
from tests.oracles import TIGHT, load_oracle
from train.data.batch import Batch, InputShape
from train.fitting.config import TrainConfig
from train.fitting.losses import sequence_cross_entropy
from train.fitting.state import Candidate, make_optimiser
from train.heads import build_head
from train.heads.blocks.penalties import doubly_stochastic_penalty
from train.heads.blocks.recurrent import advance

FORMS = ["location", "content"]
QUERIES = ["top", "bottom", "own"]


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


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("form", FORMS)
def test_its_own_weights_given_back_change_nothing(form, query):
    head, batch = soft_attention(attention=form, layers=3, query=query), random_batch()
    computed = head(batch)

    replaced = head(batch, attention=computed.maps["spatial"])

    torch.testing.assert_close(replaced.logits, computed.logits)
    torch.testing.assert_close(replaced.maps, computed.maps)
    torch.testing.assert_close(replaced.losses, computed.losses)


# --- Who looks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("query", QUERIES)
def test_with_one_layer_all_queries_are_the_same(form, query):
    options = {"attention": form, "layers": 1}
    default, other = soft_attention(**options), soft_attention(**options, query=query)
    batch = random_batch()

    torch.testing.assert_close(other.state_dict(), default.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(other(batch).logits, default(batch).logits, rtol=0, atol=0)
    assert other(batch).maps.keys() == {"spatial"}


def plain_step(layer, inputs, hidden, cell_state):
    gates = layer.from_input(inputs) + hidden @ layer.weight_hh.T
    return advance(gates, cell_state)


@pytest.mark.parametrize("query", QUERIES)
def test_two_layers_by_hand(query):
    head, batch = soft_attention(layers=2, query=query), random_batch()
    output, cubes = head(batch), batch.top.flatten(2, 3)
    bottom, top = head.initial_state(cubes.mean((1, 2)))
    for t in range(4):
        looks = {
            "top": [(head.attend, top)],
            "bottom": [(head.attend, bottom)],
            "own": [(look, bottom) for look in head.attend_below] + [(head.attend, top)],
        }
        weights = [look.score(hidden).softmax(-1) for look, (hidden, _) in looks[query]]
        seen = [torch.einsum("bp,bpd->bd", each, cubes[:, t]) for each in weights]
        first, second = head.lstm.layers
        bottom = plain_step(first, seen[0], *bottom)
        top = plain_step(second, torch.cat([bottom[0], *seen[1:]], -1), *top)

        torch.testing.assert_close(output.logits[:, t], head.output(top[0].unsqueeze(1))[:, 0])
        torch.testing.assert_close(output.maps["spatial"][:, t].flatten(1), weights[-1])
        if query == "own":
            of_layers = output.maps["spatial_of_layers"][:, t].flatten(2)
            torch.testing.assert_close(of_layers, torch.stack(weights, 1))


def test_given_attention_replaces_that_of_the_top_layer_alone():
    head, batch = soft_attention(layers=3, query="own"), random_batch()
    corner = one_hot(torch.zeros(2, 4, dtype=torch.long), 9).double().reshape(2, 4, 3, 3)

    own, given = (head(batch, attention=a).maps["spatial_of_layers"] for a in (None, corner))

    torch.testing.assert_close(given[:, :, 2], corner)
    torch.testing.assert_close(given[:, :, :2], own[:, :, :2])  # nothing comes down from the top


# --- Losses --------------------------------------------------------------------------------------


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


def test_lambda_weighs_the_penalty_as_in_the_released_code():
    batch = random_batch()
    head, as_in_paper = soft_attention(doubly_stochastic=10, scaling="code"), soft_attention()
    labels = torch.tensor([1, 2])

    output = head(batch)
    ours = sequence_cross_entropy(output.logits, labels, batch.mask)
    ours += head.loss_weights["doubly_stochastic"] * output.losses["doubly_stochastic"]

    # Sums over clips and time, but a mean over the 9 cells.
    summed = -output.logits.log_softmax(-1)[torch.arange(2), :, labels].sum()
    penalty = (1 - output.maps["spatial"].sum(1)).square().sum(0).mean()
    torch.testing.assert_close(2 * 4 * ours, summed + 10 * penalty)
    torch.testing.assert_close(
        as_in_paper(batch).losses["doubly_stochastic"], 9 * output.losses["doubly_stochastic"]
    )


def test_the_papers_weight_decay_is_adams_two_gamma_over_t():
    gamma, num_frames = 1e-2, 4
    head, batch, labels = soft_attention(), random_batch(), torch.tensor([1, 2])
    config = TrainConfig(optimiser="adam")
    optimiser = make_optimiser(head, Candidate(1e-3, 2 * gamma / num_frames), config)
    sequence_cross_entropy(head(batch).logits, labels, batch.mask).backward()
    optimiser.step()

    plain = soft_attention()
    loss = sequence_cross_entropy(plain(batch).logits, labels, batch.mask) * num_frames
    loss += gamma * sum(p.square().sum() for p in plain.parameters() if p.ndim > 1)
    (loss / num_frames).backward()
    torch.optim.Adam(plain.parameters(), lr=1e-3).step()

    torch.testing.assert_close(head.state_dict(), plain.state_dict())


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
