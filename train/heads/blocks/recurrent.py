"""The recurrent part that the LSTM heads share: initial state, stacked LSTM, output module.

The loop over time is plain Python because attention needs the state before it knows the input.
Everything that does not depend on the state is computed for all steps in one product outside it.
Masks are prefix-shaped, so later steps cannot reach valid ones and the recurrence needs no mask.
"""

from collections.abc import Iterator, Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from train.heads.blocks.conv3x3 import Conv3x3

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

    def step(
        self,
        from_input: Float[Tensor, "b gates"],
        hidden: Float[Tensor, "b n"],
        cell_state: Float[Tensor, "b n"],
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"]]:
        """Return the next hidden and cell state; `from_input` is W x_t + b, already computed."""
        i, f, g, o = torch.addmm(from_input, hidden, self.weight_hh.T).chunk(4, dim=1)
        cell_state = f.sigmoid() * cell_state + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell_state.tanh(), cell_state


class ConvLSTMCell(nn.Module):
    """Convolutional LSTM (Shi et al. 2015), the form without peepholes: one step at a time.

    3×3 convolutions of input and hidden state give gates stacked i, f, o, g. Both are for the
    caller to apply: `from_input` to all frames at once, as it does not depend on the state (it is
    linear, so it may also be applied before a weighted mean), and `from_hidden`, prepared once, at
    every step.
    """

    def __init__(self, dim: int, hidden_size: int) -> None:
        super().__init__()
        self.from_input = Conv3x3(dim, 4 * hidden_size, bias=False)
        self.from_hidden = Conv3x3(hidden_size, 4 * hidden_size)

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

    def _paired_with(self, state: LSTMState) -> Iterator[tuple[LSTMLayer, Tensor, Tensor]]:
        for layer, (hidden, cell_state) in zip(self.layers, state, strict=True):
            assert isinstance(layer, LSTMLayer)  # ModuleList forgets what it holds
            yield layer, hidden, cell_state

    def step(
        self, inputs: Float[Tensor, "b d"], state: LSTMState, *, beside: Sequence[Tensor] = ()
    ) -> LSTMState:
        """Advance all layers by one frame; for inputs that depend on the state.

        Args:
            beside: (b, beside_size) of each layer but the first, appended to what comes from below.
        """
        new_state: LSTMState = []
        for index, (layer, hidden, cell_state) in enumerate(self._paired_with(state)):
            if index and beside:
                inputs = torch.cat([inputs, beside[index - 1]], dim=-1)
            new_state.append(layer.step(layer.from_input(inputs), hidden, cell_state))
            inputs = new_state[-1][0]
        return new_state

    def forward(self, inputs: Float[Tensor, "b t d"], state: LSTMState) -> Float[Tensor, "b t n"]:
        """Return the top layer's hidden states; equal to `step` over t, but faster."""
        for layer, hidden, cell_state in self._paired_with(state):
            outputs = []
            for from_input in layer.from_input(inputs).unbind(1):
                hidden, cell_state = layer.step(from_input, hidden, cell_state)
                outputs.append(hidden)
            inputs = torch.stack(outputs, dim=1)
        return inputs


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
    """logits = W_o drop(tanh(W_l drop(h) + b_l)) + b_o, at every step."""

    def __init__(self, hidden_size: int, num_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.classify = nn.Linear(hidden_size, num_classes)

    def forward(self, hidden: Float[Tensor, "b t n"]) -> Float[Tensor, "b t classes"]:
        """Return the logits of every step."""
        dropped = F.dropout(hidden, self.dropout, self.training)
        inner = self.hidden(dropped).tanh()
        logits: Tensor = self.classify(F.dropout(inner, self.dropout, self.training))
        return logits
