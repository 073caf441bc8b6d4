"""Action recognition using visual attention (Sharma, Kiros, Salakhutdinov 2015, arXiv 1511.04119).

The paper's equation 4 and the released code disagree on what the attention sees; both are here, as
`attention=location` (the paper) and `attention=content` (the code).
"""

from functools import partial
from typing import ClassVar, Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import AttentionMap, Head
from train.heads.blocks.cell_attention import build_attention
from train.heads.blocks.masked import masked_mean, zero_masked
from train.heads.blocks.penalties import doubly_stochastic_penalty
from train.heads.blocks.recurrent import InitialState, LSTMState, OutputModule, StackedLSTM
from train.heads.blocks.together import refuse_together
from train.heads.map_meanings import LAYERS_LOOK, LOOKS, MapMeaning, MapMeanings
from train.heads.options import Depth, Dropout, NonNegativeFloat, PositiveInt
from train.heads.registry import register_head


class Steps(NamedTuple):
    """What came of all steps. There is one look per attention, that of the top layer last.

    Attributes:
        hidden: the top layer's states.
        seen: the mean that the last look gave.
        selected: how much of each look's mean was let in, with `selector`.
    """

    hidden: Float[Tensor, "b t n"]
    weights: Float[Tensor, "b t looks p"]
    seen: Float[Tensor, "b t d"]
    selected: Float[Tensor, "b t looks"] | None


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

    Four options are in the released code (src/actrec.py) under other names, and off in the script
    of UCF-11: `attention_layers` (n_layers_att, 3 in that of HMDB51), see `ContentAttention`;
    `selector`, where β_t = σ(wᵀ h_{t−1} + b) scales the mean x_t, h being the state that looks;
    `output_layers` (n_layers_out) and `context_to_output` (ctx2out), see `OutputModule`. The map
    "selector" (B, T) is β_t of the look that "spatial" shows, "selector_of_layers" is (B, T,
    layers). Given `attention=` is scaled too.

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
    map_meanings: ClassVar[MapMeanings] = {
        "spatial": LOOKS,
        "spatial_of_layers": LAYERS_LOOK,
        "selector": MapMeaning("how much of what it sees is let in", "level"),
        "selector_of_layers": MapMeaning("how much each layer lets in", "level", rows="layer"),
    }

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        attention: Literal["location", "content"] = "location",
        attention_size: PositiveInt = 128,
        query: Literal["top", "bottom", "own"] = "top",
        layers: Depth = 1,
        hidden: PositiveInt = 128,
        dropout: Dropout = 0.5,
        doubly_stochastic: NonNegativeFloat = 0.0,
        scaling: Literal["paper", "code"] = "paper",
        inverse_temperature: NonNegativeFloat = 1.0,
        attention_layers: Depth = 1,
        selector: bool = False,
        output_layers: Depth = 1,
        context_to_output: bool = False,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        refuse_together(
            attention_layers > 1 and attention == "location",
            "attention=location has no projected cells to stack layers on",
            attention_layers=attention_layers,
            attention=attention,
        )
        self.weigh_losses(doubly_stochastic=doubly_stochastic)
        self.query, self.scaling = query, scaling
        self.inverse_temperature = inverse_temperature
        depth = {"num_layers": attention_layers}
        look = partial(build_attention, attention, hidden, shape, attention_size, **depth)
        self.attend = look()
        self.initial_state = InitialState(self.dim, hidden, num_layers=layers)
        is_own = query == "own"
        beside_size = self.dim if is_own else 0
        self.lstm = StackedLSTM(self.dim, hidden, num_layers=layers, beside_size=beside_size)
        self.output = OutputModule(
            hidden,
            num_classes,
            dropout=dropout,
            num_layers=output_layers,
            context_size=self.dim if context_to_output else 0,
        )
        # Of the layers below the top, bottom first.
        num_below = layers - 1 if is_own else 0
        self.attend_below = nn.ModuleList(look() for _ in range(num_below))
        # One per look, that of the top layer last.
        num_selectors = num_below + 1 if selector else 0
        self.selectors = nn.ModuleList(nn.Linear(hidden, 1) for _ in range(num_selectors))

    def condense(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cube (B, D), from which the state starts."""
        return {"mean": masked_mean(batch.frames, batch.mask)}

    def forward(self, batch: Batch, *, attention: AttentionMap | None = None) -> HeadOutput:
        """See `Head`."""
        steps = self._recur(batch, attention)
        weights = rearrange(steps.weights, "b t looks (h w) -> b t looks h w", w=self.grid_size)
        maps = self._maps("spatial", weights)
        if steps.selected is not None:
            maps |= self._maps("selector", steps.selected)
        maps = {name: zero_masked(values, batch.mask) for name, values in maps.items()}
        return HeadOutput(
            logits=self.output(steps.hidden, steps.seen),
            maps=maps,
            losses={"doubly_stochastic": self._penalty(maps["spatial"], batch.mask)},
        )

    def _maps(self, name: str, looks: Float[Tensor, "b t looks *rest"]) -> dict[str, Tensor]:
        """Return the map of the last look, and that of all if there are several."""
        maps = {name: looks[:, :, -1]}
        if self.attend_below:
            maps[f"{name}_of_layers"] = looks
        return maps

    def _penalty(
        self, spatial: Float[Tensor, "b t k k"], mask: Bool[Tensor, "b t"]
    ) -> Float[Tensor, ""]:
        """Return the doubly stochastic penalty beside a mean of CE over frames and clips."""
        penalty = doubly_stochastic_penalty(spatial, mask)
        if self.scaling == "code":
            penalty = penalty / self.grid_size**2
        return (penalty / mask.sum(1).clamp(min=1)).mean()

    def _recur(self, batch: Batch, attention: Float[Tensor, "b t k k"] | None) -> Steps:
        cubes = rearrange(batch.top, "b t h w d -> b t (h w) d")
        given = None if attention is None else rearrange(attention, "b t h w -> b t (h w)")
        state = self.initial_state(self.condensed(batch)["mean"])
        # Whatever does not depend on the state is computed here, for all frames at once.
        looks = [*self.attend_below, *([self.attend] if given is None else [])]
        keys = [look.project(cubes).unbind(1) for look in looks]
        step = self.lstm.steps(num_steps=cubes.shape[1], num_clips=len(cubes))
        hidden, all_weights, seen, selected = [], [], [], []
        for t, frame in enumerate(cubes.unbind(1)):
            queries = self._queries(state)
            # Where the top layer's weights are given, its query is one too many.
            asked = zip(looks, queries, keys, strict=False)
            scores = [look(query, of_frames[t]) for look, query, of_frames in asked]
            weights = [self._softmax(each) for each in scores]
            if given is not None:
                weights.append(given[:, t])
            all_weights.append(torch.stack(weights, 1))
            means = torch.bmm(all_weights[-1], frame)
            if self.selectors:
                selected.append(self._select(queries))
                means = selected[-1].unsqueeze(-1) * means
            first, *others = means.unbind(1)
            state = step(first, state, others)
            hidden.append(state[-1][0])
            seen.append(means[:, -1])
        return Steps(
            torch.stack(hidden, 1),
            torch.stack(all_weights, 1),
            torch.stack(seen, 1),
            torch.stack(selected, 1) if selected else None,
        )

    def _select(self, queries: list[Float[Tensor, "b n"]]) -> Float[Tensor, "b looks"]:
        """Return how much of each mean is let in."""
        asked = zip(self.selectors, queries, strict=True)
        return torch.cat([selector(query) for selector, query in asked], dim=1).sigmoid()

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
