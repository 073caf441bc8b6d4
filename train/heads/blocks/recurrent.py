"""The recurrent part that the LSTM heads share: initial state, stacked LSTM, output module.

The loop over time is plain Python because attention needs the state before it knows the input.
Everything that does not depend on the state is computed for all steps in one product outside it,
and so are the gradients of the weights (`train.heads.blocks.steps`).
Masks are prefix-shaped, so later steps cannot reach valid ones and the recurrence needs no mask.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from train.heads.blocks.conv3x3 import Conv3x3
from train.heads.blocks.steps import LinearSteps

# Hidden and cell state (each (b, n)) of every layer, bottom first.
LSTMState = list[tuple[Tensor, Tensor]]


class LSTMLayer(nn.Module):
    """One LSTM layer, gates stacked i, f, g, o as in torch, with a single bias.

    The recurrent matrix of each gate starts orthogonal, as in the code of Sharma et al. (2015).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.from_input = nn.Linear(input_size, 4 * hidden_size)
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        nn.init.zeros_(self.from_input.bias)
        for gate in self.weight_hh.data.chunk(4):
            nn.init.orthogonal_(gate)

    def steps(self, *, num_steps: int, num_clips: int) -> LinearSteps:
        """Return what gives the gates of each step from its input and the hidden state before."""
        base = self.from_input.bias.expand(num_steps, num_clips, -1)
        return LinearSteps(base, self.from_input.weight, self.weight_hh)

    def forward(
        self,
        inputs: Float[Tensor, "b t d"],
        hidden: Float[Tensor, "b n"],
        cell_state: Float[Tensor, "b n"],
    ) -> Float[Tensor, "b t n"]:
        """Return the hidden states; equal to `steps` over t, but faster."""
        base = rearrange(self.from_input(inputs), "b t gates -> t b gates")
        gates, outputs = LinearSteps(base, self.weight_hh), []
        for _ in range(len(base)):
            hidden, cell_state = advance(gates(hidden), cell_state)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1)


def advance(
    gates: Float[Tensor, "b gates"], cell_state: Float[Tensor, "b n"]
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"]]:
    """Return the next hidden and cell state of an LSTM layer."""
    hidden, new_state = _Advance.apply(gates, cell_state)
    return hidden, new_state


class _Advance(torch.autograd.Function):
    """c' = σ(f) c + σ(i) tanh(g), h = σ(o) tanh(c'): by hand a third of what autograd would do."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, cell_state: Tensor) -> tuple[Tensor, Tensor]:
        i, f, _, o = gates.sigmoid().chunk(4, dim=1)
        g = gates.chunk(4, dim=1)[2].tanh()
        new_state = torch.addcmul(f * cell_state, i, g)
        shown = new_state.tanh()
        ctx.save_for_backward(cell_state, i, f, g, o, shown)
        return o * shown, new_state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_hidden: Tensor, grad_state: Tensor) -> tuple[Tensor, Tensor]:
        cell_state, i, f, g, o, shown = ctx.saved_tensors
        ones = torch.ones((), dtype=g.dtype, device=g.device)
        # The derivative of tanh is 1 − tanh², of σ it is σ (1 − σ).
        grad_state = torch.addcmul(
            grad_state, grad_hidden * o, torch.addcmul(ones, shown, shown, value=-1)
        )
        grads = (
            grad_state * g * i * (1 - i),
            grad_state * cell_state * f * (1 - f),
            grad_state * i * torch.addcmul(ones, g, g, value=-1),
            grad_hidden * shown * o * (1 - o),
        )
        return torch.cat(grads, dim=1), grad_state * f


class Conv1x1(nn.Conv2d):
    """1×1 convolution, in the place of a `Conv3x3`: of maps of one cell, whose border is all 0."""

    def __init__(self, dim_in: int, dim_out: int, *, bias: bool = True) -> None:
        super().__init__(dim_in, dim_out, 1, bias=bias)

    def prepared(self) -> "Conv1x1":
        """Return itself; nothing takes the weights alone."""
        return self


class ConvLSTMCell(nn.Module):
    """Convolutional LSTM (Shi et al. 2015), the form without peepholes: one step at a time.

    3×3 convolutions of input and hidden state give gates stacked i, f, o, g. Both are for the
    caller to apply: `from_input` to all frames at once, as it does not depend on the state (it is
    linear, so it may also be applied before a weighted mean), and `from_hidden`, prepared once, at
    every step. With `conv` 1×1 it is an LSTM of each cell by itself.
    """

    def __init__(
        self, dim: int, hidden_size: int, *, conv: type[Conv3x3] | type[Conv1x1] = Conv3x3
    ) -> None:
        super().__init__()
        self.from_input = conv(dim, 4 * hidden_size, bias=False)
        self.from_hidden = conv(hidden_size, 4 * hidden_size)

    def step(
        self, gates: Float[Tensor, "b gates k k"], cell_state: Float[Tensor, "b n k k"]
    ) -> tuple[Float[Tensor, "b n k k"], Float[Tensor, "b n k k"]]:
        """Return the next hidden and cell state; `gates` is the sum of both convolutions."""
        i, f, o, g = gates.chunk(4, dim=1)
        cell_state = torch.addcmul(f.sigmoid() * cell_state, i.sigmoid(), g.tanh())
        return o.sigmoid() * cell_state.tanh(), cell_state


class StackedLSTM(nn.Module):
    """Layers of LSTM, each fed with the hidden state of the one below; no dropout in between.

    With `beside_size` every layer but the first gets that many values more, see `step`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, num_layers: int, beside_size: int = 0
    ) -> None:
        super().__init__()
        sizes = [input_size] + [hidden_size + beside_size] * (num_layers - 1)
        self.layers = nn.ModuleList(LSTMLayer(size, hidden_size) for size in sizes)

    def steps(self, *, num_steps: int, num_clips: int) -> Callable[..., LSTMState]:
        """Return what advances all layers by one frame; for inputs that depend on the state.

        It takes the first layer's inputs (b, d), the state, and (b, beside_size) of each layer but
        the first, `beside`, which are appended to what comes from below.
        """
        gates_of = [
            layer.steps(num_steps=num_steps, num_clips=num_clips) for layer in self._layers()
        ]

        def step(inputs: Tensor, state: LSTMState, beside: Sequence[Tensor] = ()) -> LSTMState:
            new_state: LSTMState = []
            for index, (gates, (hidden, cell_state)) in enumerate(
                zip(gates_of, state, strict=True)
            ):
                if index and beside:
                    inputs = torch.cat([inputs, beside[index - 1]], dim=-1)
                new_state.append(advance(gates(inputs, hidden), cell_state))
                inputs = new_state[-1][0]
            return new_state

        return step

    def forward(self, inputs: Float[Tensor, "b t d"], state: LSTMState) -> Float[Tensor, "b t n"]:
        """Return the top layer's hidden states; equal to `steps` over t, but faster."""
        for layer, (hidden, cell_state) in zip(self._layers(), state, strict=True):
            inputs = layer(inputs, hidden, cell_state)
        return inputs

    def _layers(self) -> Iterator[LSTMLayer]:
        for layer in self.layers:
            assert isinstance(layer, LSTMLayer)  # ModuleList forgets what it holds
            yield layer


class InitialState(nn.Module):
    """h_0 = tanh(W_h μ + b_h), c_0 = tanh(W_c μ + b_c), a pair per layer; μ is the mean cube."""

    def __init__(self, dim: int, hidden_size: int, *, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.to_hidden = nn.Linear(dim, num_layers * hidden_size)
        self.to_cell_state = nn.Linear(dim, num_layers * hidden_size)

    def forward(self, mean: Float[Tensor, "b d"]) -> LSTMState:
        """Return the state before the first frame."""
        hidden, cell_state = (
            rearrange(linear(mean).tanh(), "b (layers n) -> layers b n", layers=self.num_layers)
            for linear in (self.to_hidden, self.to_cell_state)
        )
        return list(zip(hidden.unbind(0), cell_state.unbind(0), strict=True))


class OutputModule(nn.Module):
    """logits = W_o drop(tanh(W_l drop(h) + b_l)) + b_o, at every step.

    Two more things that the code of Sharma et al. (2015) has from arctic-captions, `build_model`
    in src/actrec.py. With `num_layers` > 1 (n_layers_out) hidden layers relu(W · + b) follow on
    tanh, each with dropout after it. With `context_size` (ctx2out) W_x x_t is added before tanh,
    where x_t is the attended mean, without dropout. The code's W_x has a bias, which does what b_l
    does; it is left out.
    """

    def __init__(
        self,
        hidden_size: int,
        num_classes: int,
        *,
        dropout: float,
        num_layers: int = 1,
        context_size: int = 0,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.classify = nn.Linear(hidden_size, num_classes)
        self.deeper = nn.ModuleList(
            nn.Linear(hidden_size, hidden_size) for _ in range(num_layers - 1)
        )
        self.from_context = (
            nn.Linear(context_size, hidden_size, bias=False) if context_size else None
        )

    def forward(
        self, hidden: Float[Tensor, "b t n"], context: Float[Tensor, "b t d"] | None = None
    ) -> Float[Tensor, "b t classes"]:
        """Return the logits of every step; `context` is read where there is a `context_size`."""
        inner = self.hidden(self._drop(hidden))
        if self.from_context is not None:
            inner = inner + self.from_context(context)
        inner = self._drop(inner.tanh())
        for layer in self.deeper:
            inner = self._drop(layer(inner).relu())
        logits: Tensor = self.classify(inner)
        return logits

    def _drop(self, values: Float[Tensor, "b t n"]) -> Float[Tensor, "b t n"]:
        return F.dropout(values, self.dropout, self.training)
