"""Soft attention: what the released code has beside the paper, against it by hand."""

import pytest
import torch
from torch import nn

from features_store.errors import UsageError
from tests.batches import batch_of, randn, random_batch
from tests.test_soft_attention import QUERIES, plain_step, soft_attention
from train.heads.blocks.cell_attention import ContentAttention
from train.heads.blocks.recurrent import OutputModule


def tied(head, other):
    """The same head with the parameters of another one, as far as it has them."""
    missing = head.load_state_dict(other.state_dict(), strict=False).missing_keys
    assert missing
    return head


NOT_INERT = [
    {"attention": "content", "attention_layers": 2},
    {"selector": True},
    {"output_layers": 2},
    {"context_to_output": True},
]


@pytest.mark.parametrize("options", NOT_INERT, ids=lambda options: "-".join(options))
def test_an_option_changes_the_logits_of_the_same_weights(options):
    form = {"attention": options.get("attention", "location")}
    default, batch = soft_attention(**form), random_batch()

    head = tied(soft_attention(**form | options), default)

    assert (head(batch).logits - default(batch).logits).abs().max() > 1e-3


# --- Depth of content attention ------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_all_layers_but_the_first_and_the_last_have_a_tanh(depth):
    look = ContentAttention(4, 6, 5, num_layers=depth).double()
    cubes, hidden = randn(2, 3, 9, 6), randn(2, 4, seed=1)

    scores = look(hidden, look.project(cubes)[:, 0])

    # As in the released code: pctx_ of `_step`, with "if lidx < n_layers_att - 1: tanh".
    context = cubes[:, 0] @ look.keys.weight.T + look.keys.bias
    for index, layer in enumerate(look.deeper, start=1):
        context = context @ layer.weight.T + layer.bias
        if index < depth - 1:
            context = context.tanh()
    state = (hidden @ look.query.weight.T).unsqueeze(1)
    expected = (context + state).tanh() @ look.score.weight[0]
    torch.testing.assert_close(scores, expected)


def test_two_layers_of_which_one_does_nothing_are_one():
    one = soft_attention(attention="content")
    two = tied(soft_attention(attention="content", attention_layers=2), one)
    nn.init.eye_(two.attend.deeper[0].weight)
    nn.init.zeros_(two.attend.deeper[0].bias)
    batch = random_batch()

    torch.testing.assert_close(two(batch).maps["spatial"], one(batch).maps["spatial"])


def test_layers_of_attention_start_as_in_the_released_code():
    (layer,) = soft_attention(attention="content", attention_layers=2).attend.deeper

    torch.testing.assert_close(
        layer.weight @ layer.weight.T, torch.eye(6).double(), atol=1e-6, rtol=0
    )
    assert layer.bias.abs().max() == 0


def test_every_layer_s_own_attention_is_as_deep():
    head = soft_attention(attention="content", attention_layers=3, query="own", layers=2)

    assert [len(look.deeper) for look in (*head.attend_below, head.attend)] == [2, 2]


def test_layers_on_nothing_are_refused():
    message = "attention_layers=2 does not go with attention=location: .* has no projected cells"

    with pytest.raises(UsageError, match=message):
        soft_attention(attention_layers=2)


# --- Selector ------------------------------------------------------------------------------------


def with_selectors(bias, **options):
    """A head whose β is σ(bias) at every step, and one without β."""
    without = soft_attention(**options)
    head = tied(soft_attention(**options, selector=True), without)
    for selector in head.selectors:
        nn.init.zeros_(selector.weight)
        nn.init.constant_(selector.bias, bias)
    return head, without


@pytest.mark.parametrize("query", QUERIES)
def test_an_open_selector_changes_nothing(query):
    head, without = with_selectors(50, query=query, layers=2)
    batch = random_batch()

    torch.testing.assert_close(head(batch).logits, without(batch).logits)


def test_a_closed_selector_is_attention_to_nothing():
    head, without = with_selectors(-50)
    batch = random_batch()

    nothing = without(batch, attention=torch.zeros(2, 4, 3, 3, dtype=torch.float64))

    torch.testing.assert_close(head(batch).logits, nothing.logits)
    assert head(batch).maps["spatial"].min() > 0


def test_given_attention_is_scaled_too():
    head, without = with_selectors(0)
    given = randn(2, 4, 3, 3).softmax(-1)
    batch = random_batch()

    halved, doubled = head(batch, attention=given), head(batch, attention=2 * given)

    torch.testing.assert_close(halved.logits, without(batch, attention=given / 2).logits)
    torch.testing.assert_close(doubled.logits, without(batch, attention=given).logits)
    torch.testing.assert_close(halved.maps["spatial"], given)


# --- Everything by hand --------------------------------------------------------------------------


@pytest.mark.parametrize("query", QUERIES)
def test_two_layers_with_selector_and_a_deep_output_by_hand(query):
    options = {"selector": True, "context_to_output": True, "output_layers": 3}
    head, batch = soft_attention(layers=2, query=query, **options), random_batch()
    output, cubes = head(batch), batch.top.flatten(2, 3)
    bottom, top = head.initial_state(cubes.mean((1, 2)))
    for t in range(4):
        looks = {
            "top": [(head.attend, top)],
            "bottom": [(head.attend, bottom)],
            "own": [(look, bottom) for look in head.attend_below] + [(head.attend, top)],
        }[query]
        weights = [look.score(hidden).softmax(-1) for look, (hidden, _) in looks]
        pairs = zip(head.selectors, looks, strict=True)
        betas = [torch.sigmoid(select(hidden)) for select, (_, (hidden, _)) in pairs]
        seen = [
            beta * torch.einsum("bp,bpd->bd", each, cubes[:, t])
            for beta, each in zip(betas, weights, strict=True)
        ]
        first, second = head.lstm.layers
        bottom = plain_step(first, seen[0], *bottom)
        top = plain_step(second, torch.cat([bottom[0], *seen[1:]], -1), *top)

        context = seen[-1] @ head.output.from_context.weight.T
        inner = (head.output.hidden(top[0]) + context).tanh()
        for layer in head.output.deeper:
            inner = layer(inner).relu()
        torch.testing.assert_close(output.logits[:, t], head.output.classify(inner))
        torch.testing.assert_close(output.maps["selector"][:, t], betas[-1][:, 0])
        if query == "own":
            of_layers = output.maps["selector_of_layers"][:, t]
            torch.testing.assert_close(of_layers, torch.cat(betas, 1))
    assert len(head.output.deeper) == 2
    assert ("selector_of_layers" in output.maps) == (query == "own")


def test_the_context_of_the_output_is_what_was_seen():
    head = soft_attention(context_to_output=True)
    batch = random_batch()
    later = batch_of(torch.cat([batch.top[:, :3], batch.top[:, 3:].flip(3)], 1))
    with torch.no_grad():
        head.lstm.layers[0].from_input.weight.zero_()  # the state does not know it

    before, after = head(batch).logits, head(later).logits

    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3] - after[:, 3]).abs().max() > 1e-4


def test_every_hidden_layer_of_the_output_has_dropout():
    module = OutputModule(64, 3, dropout=0.5, num_layers=2)
    nn.init.zeros_(module.deeper[0].weight)
    nn.init.ones_(module.deeper[0].bias)
    inputs = []
    module.classify.register_forward_pre_hook(lambda _, args: inputs.extend(args))

    module(torch.zeros(2, 3, 64))

    assert inputs[0].unique().tolist() == [0, 2]
