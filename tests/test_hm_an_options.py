"""HM-AN: its ablations against closed forms, and options that are refused."""

import pytest
import torch
from torch import nn

from features_store.errors import UsageError
from tests.batches import padded_batch, random_batch
from tests.oracles import TIGHT
from tests.test_hm_an import N, hm_an
from train.heads.blocks.hm_lstm import COPY, FLUSH, UPDATE, LayerState, boundary_rate_penalty

SOFT = {"attention": "soft", "layers": 2}


def observed(head, batch, **given):
    """The output, and the hidden states of all layers (B, T, layers, n)."""
    states = []
    handle = head.output.register_forward_pre_hook(lambda _, args: states.extend(args))
    output = head(batch, **given)
    handle.remove()
    return output, states[0]


def tied(head, other):
    """The same head with the parameters of another one, as far as their shapes agree."""
    own, others = head.state_dict(), other.state_dict()
    head.load_state_dict(
        {k: others[k] if k in others and others[k].shape == v.shape else v for k, v in own.items()}
    )
    return head


def end_segments(head, *, bias):
    """Boundaries that fire always or never, but are detected."""
    for layer in head.lstm.layers[: head.lstm.num_boundaries]:
        with torch.no_grad():
            layer.linear.weight[-1] = 0
            layer.linear.bias[-1] = bias


def forced_twin(head, **options):
    """A head of forced boundaries with the weights of one that detects."""
    twin = hm_an(**options)
    state = head.state_dict()
    for name, value in twin.state_dict().items():
        state[name] = state[name][: len(value)]  # without the row of the scores
    twin.load_state_dict({name: state[name] for name in twin.state_dict()})
    return twin


NOT_INERT = [
    {"attend": "layers"},
    {"choices": "relaxed"},
    {"boundary": "zeros"},
    {"boundary": "ones"},
    {"top_down": False},
    {"initial_boundary": 1},
    {"boundary_bias": 5.0},
    {"boundary_bias": -5.0},
    {"read_out": "concat"},
    {"read_out": "top"},
]


@pytest.mark.parametrize("options", NOT_INERT, ids=str)
@pytest.mark.parametrize("attention", ["soft", "hard"])
def test_an_option_changes_the_logits(attention, options):
    default, batch = hm_an(attention=attention), random_batch(num_frames=8)

    head = hm_an(attention=attention, **options)
    if "boundary_bias" not in options:
        tied(head, default)

    assert (head(batch).logits - default(batch).logits).abs().max() > 1e-3


# --- Forced boundaries ---------------------------------------------------------------------------


def seen(maps, batch, name="spatial"):
    return torch.einsum("bthw,bthwd->btd", maps[name], batch.top)


def test_without_boundaries_the_bottom_layer_is_an_lstm_and_the_others_stay():
    head, batch = hm_an(attention="soft", boundary="zeros", layers=3), random_batch(num_frames=6)
    layer = head.lstm.layers[0]
    nn.init.normal_(layer.linear.bias)
    lstm = nn.LSTM(6, N, batch_first=True).double()
    order = torch.arange(4 * N).reshape(4, N)[[1, 0, 3, 2]].flatten()  # f, i, o, g to i, f, g, o
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(layer.linear.weight[order, :6])
        lstm.weight_hh_l0.copy_(layer.linear.weight[order, 6 : 6 + N])
        lstm.bias_ih_l0.copy_(layer.linear.bias[order])
        lstm.bias_hh_l0.zero_()

    output, hidden = observed(head, batch)
    start = head.initial_state(head.condensed(batch)["mean"])
    expected, _ = lstm(seen(output.maps, batch), tuple(part.unsqueeze(0) for part in start[0]))

    torch.testing.assert_close(hidden[:, :, 0], expected, **TIGHT)
    for upper in (1, 2):
        assert torch.equal(hidden[:, :, upper], start[upper][0].unsqueeze(1).expand(2, 6, N))
    assert output.maps["boundary"].abs().max() == 0
    assert output.maps["operation"].unique(dim=1).tolist() == 2 * [[[UPDATE, COPY, COPY]]]


@pytest.mark.parametrize("top_boundary", [False, True])
def test_with_boundaries_everywhere_layers_flush_after_their_first_step(top_boundary):
    maps = hm_an(boundary="ones", top_boundary=top_boundary)(random_batch()).maps

    top = FLUSH if top_boundary else UPDATE
    assert torch.equal(maps["boundary"][..., :2], torch.ones(2, 4, 2, dtype=torch.float64))
    assert (maps["boundary"][..., 2] == float(top_boundary)).all()
    assert (maps["operation"][:, 0] == UPDATE).all()
    assert maps["operation"][:, 1:].unique(dim=1).tolist() == 2 * [[[FLUSH, FLUSH, top]]]


@pytest.mark.parametrize(("boundary", "bias"), [("zeros", -50), ("ones", 50)])
@pytest.mark.parametrize("top_boundary", [False, True])
def test_forced_boundaries_are_those_that_always_or_never_fire(boundary, bias, top_boundary):
    options = {"top_boundary": top_boundary, "temperature": "constant"}
    detecting, batch = hm_an(**options), random_batch(num_frames=6)
    end_segments(detecting, bias=bias)
    forced = forced_twin(detecting, boundary=boundary, **options)

    expected, output = detecting(batch), forced(batch)

    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(output.maps, expected.maps)


def test_forced_boundaries_have_no_score_and_no_temperature():
    head = hm_an(boundary="ones", top_boundary=True)

    assert {len(layer.linear.bias) for layer in head.lstm.layers} == {4 * N}
    assert head(random_batch()).maps.keys().isdisjoint({"boundary_temperature"})


# --- Top-down ------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_down", [False, True])
def test_without_top_down_a_layer_knows_nothing_of_those_above(top_down):
    head, batch = hm_an(boundary="ones", top_down=top_down), random_batch()
    _, before = observed(head, batch)
    with torch.no_grad():
        head.initial_state.to_hidden.bias[2 * N :] += 1  # of the top layer
        head.lstm.layers[2].linear.bias += 1

    _, after = observed(head, batch)

    assert torch.equal(before[:, :, :2], after[:, :, :2]) != top_down
    assert (before[:, :, 2] - after[:, :, 2]).abs().max() > 1e-3


def test_without_top_down_there_are_no_columns_for_it():
    with_it, without = hm_an(layers=2), hm_an(layers=2, top_down=False)

    assert [len(layer.linear.weight.T) for layer in with_it.lstm.layers] == [6 + 2 * N, 2 * N]
    assert [len(layer.linear.weight.T) for layer in without.lstm.layers] == [6 + N, 2 * N]


# --- Relaxed choices -----------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["soft", "hard"])
def test_cold_relaxed_choices_are_hard_ones(attention):
    options = {"attention": attention, "temperature": "constant"}
    hard, relaxed = hm_an(**options), hm_an(**options, choices="relaxed")
    batch = random_batch(num_frames=8)
    warm = relaxed(batch).logits
    relaxed.tau = 1e-9

    expected, output = hard(batch), relaxed(batch)

    assert expected.maps["boundary"].unique().tolist() == [0, 1]
    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(output.maps, expected.maps)
    assert (warm - expected.logits).abs().max() > 1e-3


@pytest.mark.parametrize("form", ["gumbel", "slope"])
def test_relaxed_choices_are_evaluated_relaxed_and_without_noise(form):
    options = {"boundary": form, "temperature": "constant", "tau": 0.4, "layers": 2}
    head, batch = hm_an(**options, choices="relaxed"), random_batch()
    soft = hm_an(**options, attention="soft")
    tied(soft, head)
    (h, _), _ = head.initial_state(batch.top.mean((1, 2, 3)))

    output = head(batch)

    at_first = soft(batch).maps["spatial"][:, 0].flatten(1).log().div(0.4).softmax(-1)
    torch.testing.assert_close(output.maps["spatial"][:, 0].flatten(1), at_first)
    linear = head.lstm.layers[0].linear
    columns = torch.cat([seen(output.maps, batch)[:, 0], h, torch.zeros(2, N)], 1)
    score = linear(columns.double())[:, -1]
    expected = (score / 0.4).sigmoid() if form == "gumbel" else ((score + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(output.maps["boundary"][:, 0, 0], expected)


def test_what_relaxed_layers_did_goes_by_one_half():
    maps = hm_an(choices="relaxed", layers=2)(random_batch(num_frames=8)).maps

    ended = maps["boundary"][..., 0] > 0.5
    own = nn.functional.pad(ended[:, :-1], (1, 0))
    assert torch.equal(maps["operation"][..., 0], torch.where(own, FLUSH, UPDATE))
    assert torch.equal(maps["operation"][..., 1], torch.where(ended, UPDATE, COPY))
    assert 0 < ended.double().mean() < 1


@pytest.mark.parametrize("choices", ["hard", "relaxed"])
@pytest.mark.parametrize("form", ["gumbel", "slope"])
def test_the_gradient_is_that_of_the_network_only_if_choices_are_relaxed(form, choices):
    head, batch = hm_an(boundary=form, choices=choices, layers=2), random_batch()
    start = head.initial_state.to_hidden.bias

    def logits(bias):
        state = {"initial_state.to_hidden.bias": bias}
        return torch.func.functional_call(head, state, (batch,)).logits

    leaf = start.detach().clone().requires_grad_()
    agrees = torch.autograd.gradcheck(logits, leaf, raise_exception=False)

    assert agrees == (choices == "relaxed")


@pytest.mark.parametrize("choices", ["hard", "relaxed"])
def test_training_is_noisy_whether_choices_are_relaxed_or_not(choices):
    head, batch = hm_an(choices=choices, dropout=0), random_batch()
    head.train()

    first, second = head(batch).maps, head(batch).maps

    for name in ("spatial", "boundary"):
        assert (first[name] - second[name]).abs().max() > 1e-3
        is_hard = first[name].unique().tolist() == [0, 1]
        # The boundary of the top layer is 0 in any case.
        assert is_hard == (choices == "hard")


# --- An attention for each layer -----------------------------------------------------------------


def test_with_one_layer_it_is_the_attention_at_the_bottom():
    default, other = hm_an(layers=1), hm_an(layers=1, attend="layers")

    torch.testing.assert_close(other.state_dict(), default.state_dict(), rtol=0, atol=0)
    assert "spatial_of_layers" not in other(random_batch()).maps


def test_two_layers_that_look_by_hand():
    head, batch = hm_an(**SOFT, attend="layers", boundary="ones"), random_batch()
    output, hidden = observed(head, batch)
    cubes, ones = batch.top.flatten(2, 3), torch.ones(2, 1, dtype=torch.float64)
    start = head.initial_state(cubes.mean((1, 2)))
    bottom, top = (LayerState(h, c, 0 * ones) for h, c in start)
    first, second = head.lstm.layers
    for t, frame in enumerate(cubes.unbind(1)):
        looks = [(head.attend, bottom), (head.attend_above[0], top)]
        weights = [look(of.hidden, look.keys(frame)).softmax(-1) for look, of in looks]
        means = [torch.einsum("bp,bpd->bd", each, frame) for each in weights]
        h, c, _ = first(first.linear, bottom, bottom=means[0], below=ones, top_hidden=top.hidden)
        bottom = LayerState(h, c, ones)
        inputs = torch.cat([h, means[1]], 1)
        h, c, _ = second(second.linear, top, bottom=inputs, below=ones, top_hidden=None)
        top = LayerState(h, c, 0 * ones)

        torch.testing.assert_close(hidden[:, t], torch.stack([bottom.hidden, top.hidden], 1))
        of_layers = output.maps["spatial_of_layers"][:, t].flatten(2)
        torch.testing.assert_close(of_layers, torch.stack(weights, 1))
        torch.testing.assert_close(output.maps["spatial"][:, t].flatten(1), weights[0])


@pytest.mark.parametrize("attention", ["soft", "hard"])
def test_given_attention_replaces_that_of_the_bottom_layer_alone(attention):
    head = hm_an(attention=attention, layers=3, attend="layers")
    batch, even = random_batch(), torch.full((2, 4, 3, 3), 1 / 9, dtype=torch.float64)

    own, given = head(batch).maps, head(batch, attention=even).maps

    torch.testing.assert_close(given["spatial"], even)
    of_layers = given["spatial_of_layers"]
    assert of_layers.shape == (2, 4, 3, 3, 3)
    torch.testing.assert_close(of_layers[:, :, 0], even)
    # The hidden states of the first frame come before it.
    torch.testing.assert_close(of_layers[:, 0, 1:], own["spatial_of_layers"][:, 0, 1:])
    assert (of_layers[:, :, 1:] - 1 / 9).abs().amax((0, 1, 3, 4)).min() > 1e-6


def test_its_own_map_given_back_changes_nothing():
    head, batch = hm_an(attend="layers"), random_batch(num_frames=6)
    computed = head(batch)

    replaced = head(batch, attention=computed.maps["spatial"])

    torch.testing.assert_close(replaced.logits, computed.logits)
    torch.testing.assert_close(
        replaced.maps["spatial_of_layers"], computed.maps["spatial_of_layers"]
    )


def test_every_look_has_noise_of_its_own():
    head = hm_an(attend="layers", layers=2).train()
    for look in (head.attend, *head.attend_above):
        nn.init.zeros_(look.score.weight)  # the noise alone chooses

    first, second = head(random_batch(num_frames=8)).maps["spatial_of_layers"].unbind(2)

    assert (first != second).any()


def test_adaptive_temperatures_of_layers_are_those_that_were_used():
    head, used = hm_an(attend="layers", layers=2), ([], [])
    adaptive = [head.attention_temperature, *head.temperatures_above]
    for each, calls in zip(adaptive, used, strict=True):
        nn.init.normal_(each.linear.weight)
        each.register_forward_hook(lambda *args, calls=calls: calls.append(args[-1]))

    maps = head(random_batch()).maps

    in_loop = [torch.cat(calls[:-1], dim=1) for calls in used]  # the last call is for the map
    of_layers = maps["attention_temperature_of_layers"]
    torch.testing.assert_close(of_layers, torch.stack(in_loop, dim=2))
    torch.testing.assert_close(maps["attention_temperature"], in_loop[0])
    assert (in_loop[0] - in_loop[1]).abs().max() > 1e-3


# --- Where boundaries start ----------------------------------------------------------------------


@pytest.mark.parametrize("top_boundary", [False, True])
@pytest.mark.parametrize("initial", [0, 1])
def test_an_initial_boundary_makes_the_first_step_a_flush(initial, top_boundary):
    head = hm_an(layers=2, initial_boundary=initial, top_boundary=top_boundary)
    batch = random_batch()
    maps, before = observed(head, batch)
    with torch.no_grad():
        head.initial_state.to_cell_state.bias += 1

    _, after = observed(head, batch)

    first = maps.maps["operation"][:, 0]
    assert ((first[:, 0] == FLUSH) == bool(initial)).all()
    assert ((first[:, 1] == FLUSH) == bool(initial and top_boundary)).all()
    has_forgotten = torch.equal(before[:, 0, 0], after[:, 0, 0])
    assert has_forgotten == bool(initial)


def test_an_initial_boundary_says_nothing_of_a_layer_without_one():
    maps = hm_an(layers=2, initial_boundary=1)(random_batch()).maps

    assert maps["boundary"][..., 1].abs().max() == 0


def test_the_bias_of_boundaries_starts_where_it_was_asked_for():
    head = hm_an(layers=3, boundary_bias=-1.5)

    biases = [layer.linear.bias for layer in head.lstm.layers]
    assert [bias[-1].item() for bias in biases] == [-1.5, -1.5, 0]
    assert all(bias[: 4 * N].abs().max() == 0 for bias in biases)


# --- How often segments end ----------------------------------------------------------------------


def test_the_rate_of_boundaries_is_asked_for_by_layer():
    boundary = torch.zeros(2, 4, 2, dtype=torch.float64)
    boundary[0, :, 0] = 1
    boundary[1, 0] = 1
    mask = torch.tensor([[True] * 4, [True] + [False] * 3])
    boundary[1, 1:] = 0.3  # masked

    penalty = boundary_rate_penalty(boundary, mask, 0.4)

    assert penalty.item() == pytest.approx((5 / 5 - 0.4) ** 2 + (1 / 5 - 0.16) ** 2)


@pytest.mark.parametrize("choices", ["hard", "relaxed"])
@pytest.mark.parametrize("top_boundary", [False, True])
def test_the_loss_is_of_the_boundaries_of_the_map(choices, top_boundary):
    options = {"boundary_rate": 0.3, "boundary_rate_weight": 2.0, "top_boundary": top_boundary}
    head, batch = hm_an(choices=choices, **options), padded_batch()

    output = head(batch)
    output.losses["boundary_rate"].backward()

    means = output.maps["boundary"].sum((0, 1)) / 6
    num_drawn = 2 + top_boundary
    expected = sum((means[layer] - 0.3 ** (layer + 1)) ** 2 for layer in range(num_drawn))
    torch.testing.assert_close(output.losses["boundary_rate"], expected.detach())
    assert head.loss_weights == {"boundary_rate": 2.0}
    for layer in head.lstm.layers[:num_drawn]:
        assert layer.linear.bias.grad[-1] != 0


def test_there_is_no_such_loss_without_a_weight():
    head = hm_an(boundary_rate=0.1)

    assert head(random_batch()).losses == {}
    assert head.loss_weights == {}


# --- Read-out ------------------------------------------------------------------------------------


def test_gates_that_are_half_open_are_none_with_half_the_weights():
    gated, batch = hm_an(), random_batch()
    nn.init.zeros_(gated.output.gates.weight)
    plain = tied(hm_an(read_out="concat"), gated)
    with torch.no_grad():
        plain.output.embed.weight /= 2

    torch.testing.assert_close(plain(batch).logits, gated(batch).logits)


def test_the_top_alone_is_all_layers_of_which_the_others_do_not_count():
    top, batch = hm_an(read_out="top", layers=2), random_batch()
    concat = tied(hm_an(read_out="concat", layers=2), top)
    with torch.no_grad():
        concat.output.embed.weight.zero_()[:, N:] = top.output.embed.weight

    torch.testing.assert_close(concat(batch).logits, top(batch).logits)


def test_a_plain_read_out_by_hand():
    head, batch = hm_an(read_out="concat"), random_batch()
    output, hidden = observed(head, batch)

    embedded = (hidden.flatten(2) @ head.output.embed.weight.T).relu()

    torch.testing.assert_close(output.logits, head.output.classify(embedded))


@pytest.mark.parametrize("read_out", ["concat", "top"])
def test_a_plain_read_out_has_dropout_before_both_layers(read_out):
    head, batch = hm_an(read_out=read_out, dropout=0.5), random_batch(num_frames=8)
    inputs = []
    for layer in (head.output.embed, head.output.classify):
        layer.register_forward_pre_hook(lambda _, args: inputs.append((args[0] == 0).any()))
    head.output.embed.register_forward_hook(lambda _, __, values: values.abs())
    head(batch)

    head.output.train()
    head(batch)

    assert inputs == [False, False, True, True]


# --- Options that make no sense together ---------------------------------------------------------

REFUSED = [
    ({"attend": "layers", "query": "top"}, "query=top does not go with attend=layers"),
    ({"attend": "layers", "query": "all"}, "query=all does not go with attend=layers"),
    ({"attend": "layers", "boundary": "zeros"}, "attend=layers does not go with boundary=zeros"),
    ({"read_out": "top", "boundary": "zeros"}, "read_out=top does not go with boundary=zeros"),
    (
        {"choices": "relaxed", "attention": "soft", "boundary": "ones"},
        "choices=relaxed does not go with boundary=ones and attention=soft",
    ),
    ({"boundary": "zeros", "initial_boundary": 1}, "initial_boundary=1 does .* boundary=zeros"),
    ({"boundary": "ones", "boundary_bias": 1}, "boundary_bias=1.0 does .* boundary=ones"),
    ({"boundary": "zeros", "boundary_rate_weight": 1}, "boundary_rate_weight=.* boundary=zeros"),
    ({"layers": 1, "initial_boundary": 1}, "initial_boundary=1 does not go with layers=1"),
    ({"layers": 1, "boundary_bias": -1}, "boundary_bias=-1.0 does not go with layers=1"),
    ({"layers": 1, "boundary_rate_weight": 1}, "boundary_rate_weight=1.0 does not go with layers"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        hm_an(**options)


ALLOWED = [
    {"boundary": "zeros", "layers": 1, "read_out": "top"},
    {"boundary": "zeros", "layers": 1, "attend": "layers"},
    {"boundary": "ones", "initial_boundary": 1},
    {"boundary": "ones", "choices": "relaxed"},
    {"layers": 1, "top_boundary": True, "boundary_rate_weight": 1.0, "initial_boundary": 1},
]


@pytest.mark.parametrize("options", ALLOWED, ids=str)
def test_their_neighbours_are_not(options):
    assert hm_an(**options)(random_batch()).logits.isfinite().all()


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_rate_that_cannot_be_is_refused(rate):
    with pytest.raises(UsageError, match=r"'boundary_rate' must be .* at least 0 and at most 1"):
        hm_an(boundary_rate=rate)
