"""Hierarchical multiscale LSTM (Chung, Ahn, Bengio 2016, arXiv 1609.01704), one step at a time.

Layers update at their own pace. A layer's *boundary* z is 1 where one of its segments ends; what a
layer does at a step follows from two of them:

    own z_{t-1}   z_t of the layer below   operation
    0             0                        COPY     nothing changes, to the last bit
    0             1                        UPDATE   an LSTM step
    1             0 or 1                   FLUSH    an LSTM step that forgets the cell state

How a boundary is drawn from its score is the caller's: see `train.heads.hm_an`.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from train.heads.blocks.recurrent import LSTMState
from train.heads.blocks.steps import LinearSteps

COPY, UPDATE, FLUSH = 0, 1, 2

# detect(layer, scores, hidden) -> boundary: scores z̃ and boundary z are (b, 1), hidden is (b, n).
Detect = Callable[[int, Tensor, Tensor], Tensor]


class LayerState(NamedTuple):
    """What a layer carries from one step to the next."""

    hidden: Float[Tensor, "b n"]
    cell_state: Float[Tensor, "b n"]
    boundary: Float[Tensor, "b 1"]


class HMLSTMLayer(nn.Module):
    """One layer; rows stacked f, i, o, g, z̃ and columns bottom-up, recurrent, top-down.

    The top layer has no top-down columns. A layer without a boundary has no row z̃.
    """

    def __init__(
        self, bottom_size: int, hidden_size: int, *, has_top: bool, has_boundary: bool
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        num_columns = bottom_size + hidden_size * (2 if has_top else 1)
        self.linear = nn.Linear(num_columns, 4 * hidden_size + has_boundary)
        nn.init.zeros_(self.linear.bias)
        recurrent = self.linear.weight.data[:, bottom_size : bottom_size + hidden_size]
        for gate in recurrent[: 4 * hidden_size].chunk(4):
            nn.init.orthogonal_(gate)

    def steps(self, *, num_steps: int, num_clips: int) -> LinearSteps:
        """Return what gives the rows of each step from its columns."""
        base = self.linear.bias.expand(num_steps, num_clips, -1)
        return LinearSteps(base, self.linear.weight)

    def forward(
        self,
        rows_of: Callable[[Tensor], Tensor],
        state: LayerState,
        *,
        bottom: Float[Tensor, "b d"],
        below: Float[Tensor, "b 1"],
        top_hidden: Float[Tensor, "b n"] | None,
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"], Float[Tensor, "b rest"]]:
        """Return the next hidden and cell state, and the boundary's score if there is one.

        Args:
            rows_of: what `steps` has returned for all frames.
            below: z_t of the layer below, which lets its hidden state `bottom` in.
            top_hidden: h_{t-1} of the layer above, let in right after an own boundary.
        """
        hidden, cell_state, boundary = state
        # z (W h) is W (z h): so all three terms are one product.
        terms = [below * bottom, hidden]
        if top_hidden is not None:
            terms.append(boundary * top_hidden)
        rows = rows_of(torch.cat(terms, dim=1))
        n = self.hidden_size
        f, i, o = rows[:, : 3 * n].sigmoid().chunk(3, dim=1)
        flushed = i * rows[:, 3 * n : 4 * n].tanh()
        # lerp is exact at both ends, and has a gradient for the boundaries.
        kept = torch.lerp(cell_state, f * cell_state + flushed, below)
        cell_state = torch.lerp(kept, flushed, boundary)
        shown = o * cell_state.tanh()
        hidden = torch.lerp(torch.lerp(hidden, shown, below), shown, boundary)
        return hidden, cell_state, rows[:, 4 * n :]


class HMLSTM(nn.Module):
    """A stack of layers. The top layer's boundary stays 0 unless `top_boundary`."""

    def __init__(
        self, input_size: int, hidden_size: int, *, num_layers: int, top_boundary: bool = False
    ) -> None:
        super().__init__()
        last = num_layers - 1
        self.layers = nn.ModuleList(
            HMLSTMLayer(
                hidden_size if layer else input_size,
                hidden_size,
                has_top=layer < last,
                has_boundary=layer < last or top_boundary,
            )
            for layer in range(num_layers)
        )

    def steps(self, *, num_steps: int, num_clips: int) -> Callable[..., list[LayerState]]:
        """Return what advances all layers by one frame, bottom first.

        It takes the inputs (b, d), which always count as a boundary, the state, and a `Detect`.
        """
        layers = [layer for layer in self.layers if isinstance(layer, HMLSTMLayer)]
        rows_of = [layer.steps(num_steps=num_steps, num_clips=num_clips) for layer in layers]

        def step(inputs: Tensor, state: list[LayerState], detect: Detect) -> list[LayerState]:
            bottom, below = inputs, torch.ones_like(inputs[:, :1])
            new_state: list[LayerState] = []
            for index, layer in enumerate(layers):
                top_hidden = state[index + 1].hidden if index + 1 < len(state) else None
                hidden, cell_state, scores = layer(
                    rows_of[index], state[index], bottom=bottom, below=below, top_hidden=top_hidden
                )
                below = detect(index, scores, hidden) if scores.shape[1] else state[index].boundary
                new_state.append(LayerState(hidden, cell_state, below))
                bottom = hidden
            return new_state

        return step


class GatedOutput(nn.Module):
    """g^ℓ = σ(w^ℓᵀ[h^1; …; h^L]), h^e = relu(Σ_ℓ g^ℓ W^e_ℓ h^ℓ), logits = W_o drop(h^e) + b_o.

    The output module of Chung et al. (2016), at every step.
    """

    def __init__(
        self, hidden_size: int, num_classes: int, *, num_layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.gates = nn.Linear(num_layers * hidden_size, num_layers, bias=False)
        self.embed = nn.Linear(num_layers * hidden_size, hidden_size, bias=False)
        self.classify = nn.Linear(hidden_size, num_classes)

    def forward(self, hidden: Float[Tensor, "b t layers n"]) -> Float[Tensor, "b t classes"]:
        """Return the logits of every step."""
        gates = self.gates(rearrange(hidden, "b t layers n -> b t (layers n)")).sigmoid()
        gated = rearrange(gates.unsqueeze(-1) * hidden, "b t layers n -> b t (layers n)")
        embedded = self.embed(F.dropout(gated, self.dropout, self.training)).relu()
        logits: Tensor = self.classify(F.dropout(embedded, self.dropout, self.training))
        return logits


def without_boundaries(state: LSTMState) -> list[LayerState]:
    """Return an initial state: no layer has just ended a segment."""
    return [LayerState(h, c, torch.zeros_like(h[:, :1])) for h, c in state]


def operations(boundary: Float[Tensor, "b t layers"]) -> Int[Tensor, "b t layers"]:
    """Return what each layer did at each step: COPY, UPDATE or FLUSH.

    >>> operations(torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]]))[0].tolist()
    [[1, 0], [1, 1], [2, 0]]
    """
    # own  0 z_0 z_1      before the first step there is none
    own = F.pad(boundary[:, :-1], (0, 0, 1, 0))
    below = F.pad(boundary[..., :-1], (1, 0), value=1.0)
    return torch.where(own > 0, FLUSH, torch.where(below > 0, UPDATE, COPY))
