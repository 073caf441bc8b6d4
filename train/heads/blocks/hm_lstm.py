"""Hierarchical multiscale LSTM (Chung, Ahn, Bengio 2016, arXiv 1609.01704), one step at a time.

Layers update at their own pace. A layer's *boundary* z is 1 where one of its segments ends; what a
layer does at a step follows from two of them:

    own z_{t-1}   z_t of the layer below   operation
    0             0                        COPY     nothing changes, to the last bit
    0             1                        UPDATE   an LSTM step
    1             0 or 1                   FLUSH    an LSTM step that forgets the cell state

How a boundary is drawn from its score is the caller's: see `train.heads.blocks.discrete`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from train.heads.blocks.masked import zero_masked
from train.heads.blocks.recurrent import LSTMState
from train.heads.blocks.steps import LinearSteps

COPY, UPDATE, FLUSH = 0, 1, 2

# detect(layer, scores, hidden) -> boundary: scores z̃ and boundary z are (b, 1), hidden is (b, n).
# Scores are (b, 0) where the layers have none.
Detect = Callable[[int, Tensor, Tensor], Tensor]


class LayerState(NamedTuple):
    """What a layer carries from one step to the next."""

    hidden: Float[Tensor, "b n"]
    cell_state: Float[Tensor, "b n"]
    boundary: Float[Tensor, "b 1"]


class HMLSTMLayer(nn.Module):
    """One layer; rows stacked f, i, o, g, z̃ and columns bottom-up, recurrent, top-down.

    The top layer has no top-down columns. A layer without a boundary has no row z̃; the bias of
    that row starts at `boundary_bias`.
    """

    def __init__(
        self,
        bottom_size: int,
        hidden_size: int,
        *,
        has_top: bool,
        has_boundary: bool,
        boundary_bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        num_columns = bottom_size + hidden_size * (2 if has_top else 1)
        self.linear = nn.Linear(num_columns, 4 * hidden_size + has_boundary)
        nn.init.zeros_(self.linear.bias)
        nn.init.constant_(self.linear.bias.data[4 * hidden_size :], boundary_bias)
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
    """A stack of layers. The top layer's boundary stays what it was unless `top_boundary`.

    Args:
        top_down: whether a layer reads the one above after a boundary of its own.
        has_scores: whether layers with a boundary have a row z̃; False if boundaries are forced.
        boundary_bias: where the biases of these rows start.
        beside_size: so many values more does every layer but the first get, see `steps`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int,
        top_boundary: bool = False,
        top_down: bool = True,
        has_scores: bool = True,
        boundary_bias: float = 0.0,
        beside_size: int = 0,
    ) -> None:
        super().__init__()
        self.top_down = top_down
        self.num_boundaries = num_layers - 1 + top_boundary
        self.layers = nn.ModuleList(
            HMLSTMLayer(
                hidden_size + beside_size if layer else input_size,
                hidden_size,
                has_top=top_down and layer < num_layers - 1,
                has_boundary=has_scores and layer < self.num_boundaries,
                boundary_bias=boundary_bias,
            )
            for layer in range(num_layers)
        )

    def steps(self, *, num_steps: int, num_clips: int) -> Callable[..., list[LayerState]]:
        """Return what advances all layers by one frame, bottom first.

        It takes the inputs (b, d), which always count as a boundary, the state, a `Detect`, and
        (b, beside_size) of each layer but the first, `beside`, which are appended to what comes
        from below and let in with it.
        """
        layers = [layer for layer in self.layers if isinstance(layer, HMLSTMLayer)]
        rows_of = [layer.steps(num_steps=num_steps, num_clips=num_clips) for layer in layers]

        def step(
            inputs: Tensor, state: list[LayerState], detect: Detect, beside: Sequence[Tensor] = ()
        ) -> list[LayerState]:
            bottom, below = inputs, torch.ones_like(inputs[:, :1])
            new_state: list[LayerState] = []
            for index, layer in enumerate(layers):
                has_top = self.top_down and index + 1 < len(state)
                top_hidden = state[index + 1].hidden if has_top else None
                if index and beside:
                    bottom = torch.cat([bottom, beside[index - 1]], dim=1)
                hidden, cell_state, scores = layer(
                    rows_of[index], state[index], bottom=bottom, below=below, top_hidden=top_hidden
                )
                has_boundary = index < self.num_boundaries
                below = detect(index, scores, hidden) if has_boundary else state[index].boundary
                new_state.append(LayerState(hidden, cell_state, below))
                bottom = hidden
            return new_state

        return step


def without_boundaries(state: LSTMState, *, except_lowest: int = 0) -> list[LayerState]:
    """Return an initial state: no layer has just ended a segment, or only the lowest so many."""
    return [
        LayerState(h, c, torch.full_like(h[:, :1], float(layer < except_lowest)))
        for layer, (h, c) in enumerate(state)
    ]


def operations(
    boundary: Float[Tensor, "b t layers"], *, num_ended: int = 0
) -> Int[Tensor, "b t layers"]:
    """Return what each layer did at each step: COPY, UPDATE or FLUSH.

    Of relaxed boundaries, those above one half count. `num_ended` layers, the lowest, had ended a
    segment before the first step.

    >>> operations(torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]]))[0].tolist()
    [[1, 0], [1, 1], [2, 0]]
    """
    ended = boundary > 0.5
    # own  start z_0 z_1
    start = torch.arange(ended.shape[2], device=ended.device) < num_ended
    own = torch.cat([start.expand_as(ended[:, :1]), ended[:, :-1]], dim=1)
    below = F.pad(ended[..., :-1], (1, 0), value=True)
    return torch.where(own, FLUSH, torch.where(below, UPDATE, COPY))


def boundary_rate_penalty(
    boundary: Float[Tensor, "b t layers"], mask: Bool[Tensor, "b t"], rate: float
) -> Float[Tensor, ""]:
    """Return Σ_ℓ (mean z^ℓ − rate^ℓ)², ℓ = 1, 2, … from the bottom; means over valid frames.

    A layer is thus asked to end a segment after 1/`rate` segments of the layer below.
    """
    means = zero_masked(boundary, mask).sum((0, 1)) / mask.sum().clamp(min=1)
    powers = torch.arange(1, 1 + len(means), device=means.device, dtype=means.dtype)
    return (means - torch.pow(rate, powers)).square().sum()
