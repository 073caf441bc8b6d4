"""Action recognition using visual attention (Sharma, Kiros, Salakhutdinov 2015, arXiv 1511.04119).

The paper's equation 4 and the released code disagree on what the attention sees; both are here, as
`attention=location` (the paper) and `attention=content` (the code).
"""

from typing import ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import AttentionMap, Head
from train.heads.blocks.masked import masked_mean, zero_masked
from train.heads.blocks.penalties import doubly_stochastic_penalty
from train.heads.blocks.recurrent import InitialState, LSTMState, OutputModule, StackedLSTM
from train.heads.options import Dropout, NonNegativeFloat, PositiveInt
from train.heads.registry import register_head


class LocationAttention(nn.Module):
    """scores_t = W h_{t−1}, eq. 4 of the paper: it looks somewhere before it sees the frame."""

    def __init__(self, hidden_size: int, num_cells: int) -> None:
        super().__init__()
        self.score = nn.Linear(hidden_size, num_cells, bias=False)

    def keys(self, cubes: Float[Tensor, "b t p d"]) -> Float[Tensor, "b t p d"]:
        """Return the cubes as they are; the scores do not look at them."""
        return cubes

    def forward(
        self, hidden: Float[Tensor, "b n"], keys: Float[Tensor, "b p a"]
    ) -> Float[Tensor, "b p"]:
        """Return the scores of one frame."""
        scores: Tensor = self.score(hidden)
        return scores


class ContentAttention(nn.Module):
    """scores_t = uᵀ tanh(W_x X_t + b + W_h h_{t−1}), as in the released code.

    The code adds a scalar to all scores, which the softmax cancels; it is left out.
    """

    def __init__(self, hidden_size: int, dim: int, attention_size: int) -> None:
        super().__init__()
        # W_x X + b: of all frames at once, before the loop
        self.keys = nn.Linear(dim, attention_size)
        self.query = nn.Linear(hidden_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def forward(
        self, hidden: Float[Tensor, "b n"], keys: Float[Tensor, "b p a"]
    ) -> Float[Tensor, "b p"]:
        """Return the scores of one frame."""
        scores: Tensor = self.score((keys + self.query(hidden).unsqueeze(1)).tanh())
        return scores.squeeze(-1)


def build_attention(
    form: Literal["location", "content"], hidden_size: int, shape: InputShape, attention_size: int
) -> LocationAttention | ContentAttention:
    """Return an attention over the cells of the top cube."""
    grid_size, dim = shape.top
    if form == "location":
        return LocationAttention(hidden_size, grid_size**2)
    return ContentAttention(hidden_size, dim, attention_size)


@register_head("soft-attention")
class SoftAttention(Head):
    """A stack of LSTM layers whose input is the attention-weighted mean of the cells.

    `query` says whose hidden state of the step before looks: the `top` layer's, as in the paper's
    figure, or the `bottom` one's. The mean goes into the first layer, each other layer gets the
    hidden state h_t of the one below. With `own`, the form of arctic-captions with several layers,
    every layer has an attention of its own and looks by its own hidden state: the first gets its
    mean x_t, layer ℓ gets [h_t of the layer below; its own mean x_t^ℓ]. With one layer all three
    are the same.

    The map "spatial" is l_{t,i} of the paper, with `own` that of the top layer, as arctic-captions
    has it; `attention=` replaces it and nothing else. With `own` and several layers the map
    "spatial_of_layers" is (B, T, layers, K, K), the top last. `attention_size` is the width of
    content attention's hidden layer, which the released code sets to D.

    The loss "doubly_stochastic" is that of the map "spatial", `doubly_stochastic` its weight λ. A
    clip's loss is Σ_t CE_t + λ Σ_i (1 − Σ_t l_{t,i})² in the paper; the released code takes the
    mean over the K² cells instead of the sum. Ours is the mean of CE over the T valid frames, so
    both are divided by T, and λ is that of the paper with `scaling=paper` and that of a script
    with `scaling=code`: λ there is λ / K² here.

    γ Σθ² of the paper beside a sum over T frames is γ/T beside our mean, with gradient 2γ/T · θ,
    which is what `--optimiser adam --weight-decay` 2γ/T adds: 6.7e-7 for γ = 1e-5, T = 30. In the
    code the sum is over B clips too: 2γ/(BT), 5.2e-9 for B = 128. AdamW, our default, subtracts
    rate · decay · θ instead, whatever the gradient; of a weight whose gradient is of size g Adam
    subtracts rate · (2γ/T)/g · θ, so that the two agree where decay = (2γ/T)/g, which is no single
    number. Both decay matrices alone, the code biases too.
    """

    source: ClassVar[str] = "Sharma, Kiros, Salakhutdinov 2015, arXiv 1511.04119, equation 4"
    weight_decay: ClassVar[float] = 1e-5
    takes_attention: ClassVar[bool] = True
    reads_cubes: ClassVar[bool] = True

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        attention: Literal["location", "content"] = "location",
        attention_size: PositiveInt = 128,
        query: Literal["top", "bottom", "own"] = "top",
        layers: PositiveInt = 1,
        hidden: PositiveInt = 128,
        dropout: Dropout = 0.5,
        doubly_stochastic: NonNegativeFloat = 0.0,
        scaling: Literal["paper", "code"] = "paper",
        inverse_temperature: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        self.weigh_losses(doubly_stochastic=doubly_stochastic)
        self.query, self.scaling = query, scaling
        self.inverse_temperature = inverse_temperature
        self.attend = build_attention(attention, hidden, shape, attention_size)
        self.initial_state = InitialState(self.dim, hidden, num_layers=layers)
        is_own = query == "own"
        beside_size = self.dim if is_own else 0
        self.lstm = StackedLSTM(self.dim, hidden, num_layers=layers, beside_size=beside_size)
        self.output = OutputModule(hidden, num_classes, dropout=dropout)
        # Of the layers below the top, bottom first.
        self.attend_below = nn.ModuleList(
            build_attention(attention, hidden, shape, attention_size)
            for _ in range(layers - 1 if is_own else 0)
        )

    def condense(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cube (B, D), from which the state starts."""
        return {"mean": masked_mean(batch.frames, batch.mask)}

    def forward(self, batch: Batch, *, attention: AttentionMap | None = None) -> HeadOutput:
        """See `Head`."""
        hidden, weights = self._recur(batch, attention)
        weights = zero_masked(weights, batch.mask)
        maps = {"spatial": weights[:, :, -1]}
        if self.attend_below:
            maps["spatial_of_layers"] = weights
        return HeadOutput(
            logits=self.output(hidden),
            maps=maps,
            losses={"doubly_stochastic": self._penalty(maps["spatial"], batch.mask)},
        )

    def _penalty(
        self, spatial: Float[Tensor, "b t k k"], mask: Bool[Tensor, "b t"]
    ) -> Float[Tensor, ""]:
        """Return the doubly stochastic penalty beside a mean of CE over frames and clips."""
        penalty = doubly_stochastic_penalty(spatial, mask)
        if self.scaling == "code":
            penalty = penalty / self.grid_size**2
        return (penalty / mask.sum(1).clamp(min=1)).mean()

    def _recur(
        self, batch: Batch, attention: Float[Tensor, "b t k k"] | None
    ) -> tuple[Float[Tensor, "b t n"], Float[Tensor, "b t looks k k"]]:
        """Return the top layer's hidden states and the weights that led to them.

        There is one look per attention, that of the top layer last.
        """
        cubes = rearrange(batch.top, "b t h w d -> b t (h w) d")
        given = None if attention is None else rearrange(attention, "b t h w -> b t (h w)")
        state = self.initial_state(self.condensed(batch)["mean"])
        # Whatever does not depend on the state is computed here, for all frames at once.
        looks = [*self.attend_below, *([self.attend] if given is None else [])]
        keys = [look.keys(cubes).unbind(1) for look in looks]
        step = self.lstm.steps(num_steps=cubes.shape[1], num_clips=len(cubes))
        hidden, all_weights = [], []
        for t, frame in enumerate(cubes.unbind(1)):
            # Where the top layer's weights are given, its query is one too many.
            asked = zip(looks, self._queries(state), keys, strict=False)
            scores = [look(query, of_frames[t]) for look, query, of_frames in asked]
            weights = [self._softmax(each) for each in scores]
            if given is not None:
                weights.append(given[:, t])
            all_weights.append(torch.stack(weights, 1))
            first, *others = torch.bmm(all_weights[-1], frame).unbind(1)
            state = step(first, state, others)
            hidden.append(state[-1][0])
        stacked, height = torch.stack(all_weights, 1), batch.top.shape[2]
        grid = rearrange(stacked, "b t looks (h w) -> b t looks h w", h=height)
        return torch.stack(hidden, 1), grid

    def _softmax(self, scores: Float[Tensor, "b p"]) -> Float[Tensor, "b p"]:
        if self.inverse_temperature != 1:
            scores = self.inverse_temperature * scores
        return scores.softmax(dim=-1)

    def _queries(self, state: LSTMState) -> list[Float[Tensor, "b n"]]:
        """Return the hidden states that look, one per attention, that of the top layer last."""
        hidden = [layer_hidden for layer_hidden, _ in state]
        if self.query == "own":
            return hidden
        return hidden[-1:] if self.query == "top" else hidden[:1]
