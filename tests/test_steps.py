"""Linear maps in a loop: values and gradients are those of the plain loop."""

import pytest
import torch
from torch.nn.functional import linear

from tests.batches import randn
from train.heads.blocks.recurrent import LSTMLayer, StackedLSTM, advance
from train.heads.blocks.steps import LinearSteps

T, B, IN, OUT = 5, 3, 4, 6


def leaves():
    made = (randn(OUT), randn(OUT, IN, seed=1), randn(OUT, OUT, seed=2))
    return [each.requires_grad_() for each in made]


def recurrence(apply, inputs, num_steps=T):
    """A loop whose steps depend on each other; `apply(x, h)` gives the next state."""
    hidden, summed = torch.zeros(B, OUT, dtype=torch.float64), 0.0
    for t in range(num_steps):
        hidden = apply(inputs[t], hidden).tanh()
        summed = summed + (hidden * (t + 1)).sum()
    return summed


@pytest.mark.parametrize("num_steps", [T, 2, 1])
def test_a_loop_has_the_values_and_gradients_of_the_plain_one(num_steps):
    inputs = randn(T, B, IN, seed=3).requires_grad_()
    bias, first, second = leaves()
    steps = LinearSteps(bias.expand(T, B, -1), first, second)
    ours = recurrence(steps, inputs, num_steps)
    wanted = [bias, first, second, inputs]
    grads = torch.autograd.grad(ours, wanted)

    def plain(x, h):
        return linear(x, first, bias) + h @ second.T

    expected = recurrence(plain, inputs, num_steps)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(grads, torch.autograd.grad(expected, wanted))


def test_a_frozen_weight_has_no_gradient():
    bias, first, second = leaves()
    first.requires_grad_(False)
    steps = LinearSteps(bias.expand(T, B, -1), first, second)
    recurrence(steps, randn(T, B, IN)).backward()
    assert first.grad is None
    assert second.grad.abs().sum() > 0


def test_without_gradients_nothing_is_kept():
    bias, first, second = leaves()
    with torch.inference_mode():
        steps = LinearSteps(bias.expand(T, B, -1), first, second)
        recurrence(steps, randn(T, B, IN))
    assert steps._inputs == []


def test_a_step_of_an_lstm_has_the_gradients_of_its_values():
    gates, cell_state = randn(B, 4 * OUT), randn(B, OUT, seed=1)
    assert torch.autograd.gradcheck(advance, (gates.requires_grad_(), cell_state.requires_grad_()))


@pytest.mark.parametrize("num_layers", [1, 3])
def test_a_stack_is_the_plain_loop(num_layers):
    torch.manual_seed(0)
    lstm = StackedLSTM(IN, OUT, num_layers=num_layers).double()
    inputs = randn(B, T, IN)
    state = [(randn(B, OUT, seed=i), randn(B, OUT, seed=9 + i)) for i in range(num_layers)]

    def plain(layer: LSTMLayer, values, hidden, cell_state):
        outputs = []
        for frame in values.unbind(1):
            i, f, g, o = (layer.from_input(frame) + hidden @ layer.weight_hh.T).chunk(4, dim=1)
            cell_state = f.sigmoid() * cell_state + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell_state.tanh()
            outputs.append(hidden)
        return torch.stack(outputs, 1)

    def stepwise():
        step, now, outputs = lstm.steps(num_steps=T, num_clips=B), state, []
        for frame in inputs.unbind(1):
            now = step(frame, now)
            outputs.append(now[-1][0])
        return torch.stack(outputs, 1)

    expected = inputs
    for layer, (hidden, cell_state) in zip(lstm.layers, state, strict=True):
        expected = plain(layer, expected, hidden, cell_state)
    parameters = list(lstm.parameters())
    wanted = torch.autograd.grad(expected.square().sum(), parameters)
    for ours in (lstm(inputs, state), stepwise()):
        torch.testing.assert_close(ours, expected)
        grads = torch.autograd.grad(ours.square().sum(), parameters)
        torch.testing.assert_close(grads, wanted)
