"""Hierarchical multi-scale attention network, HM-AN (Yan, Smith, Lu, Zhang 2017, arXiv 1708.07590).

A hierarchical multiscale LSTM over attended frames. Boundaries of segments and, with
`attention=hard`, the cell that is looked at are discrete: drawn from Gumbel distributions in
training, the most probable ones in evaluation. The paper's text was not at hand beyond its
abstract: query, initial state and read-out follow its two foundations, Chung et al. (2016) and
Sharma et al. (2015).
"""

from collections.abc import Iterable
from functools import partial
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from annotated_types import Ge, Le
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import AttentionMap, Head
from train.heads.blocks.cell_attention import ContentAttention
from train.heads.blocks.discrete import FORCED, Sampling, adaptive_temperatures
from train.heads.blocks.gumbel import (
    LOWEST_TEMPERATURE,
    AdaptiveTemperature,
    AnnealingClock,
    annealed_slope,
    annealed_temperature,
)
from train.heads.blocks.hm_an_options import refuse_forced, refuse_idle, refuse_missing
from train.heads.blocks.hm_lstm import (
    HMLSTM,
    LayerState,
    boundary_rate_penalty,
    operations,
    without_boundaries,
)
from train.heads.blocks.masked import masked_mean, zero_masked
from train.heads.blocks.readouts import build_read_out
from train.heads.blocks.recurrent import InitialState
from train.heads.map_meanings import LAYERS_LOOK, LOOKS, MapMeaning, MapMeanings
from train.heads.options import Depth, Dropout, NonNegativeFloat, PositiveInt
from train.heads.registry import register_head


class Steps(NamedTuple):
    """What came of all steps; `queries` and `weights`, one per look, led to the others."""

    queries: Float[Tensor, "b t looks q"]
    weights: Float[Tensor, "b t looks p"]
    hidden: Float[Tensor, "b t layers n"]
    boundary: Float[Tensor, "b t layers"]


@register_head("hm-an")
class HMAN(Head):
    """Attention, an HM-LSTM with up to `layers` time scales, and a gated read-out; logits per step.

    `attention=soft` takes the weighted mean of the cells, `hard` a single cell by Gumbel-softmax.
    Its query is the hidden state of the bottom layer, the top one, or all (`query`). With
    `attend=layers` every layer has an attention of its own and looks by its own hidden state; its
    mean is appended to what comes from below, and let in with it.
    `boundary=gumbel` draws boundaries by Gumbel-sigmoid, `slope` rounds a hard sigmoid whose slope
    is annealed from 1 to 5, as in Chung et al. (2016). The `temperature` of Gumbel distributions is
    a `constant` tau, is `annealed` from 1 to tau, or is `adaptive`, where the state says it.
    Annealing takes `anneal_epochs`; Chung et al. take 100.

    Ablations. `boundary=zeros` and `ones` detect nothing: z_t is the same at every step, of the top
    layer with `top_boundary`. With zeros the bottom layer is an LSTM, and the others, whose weights
    then get no gradient, stay at their initial state. With `choices=relaxed` relaxed boundaries and
    cells go forward in place of hard ones; in evaluation too, without noise, so that the network is
    evaluated that was trained. "operation" then goes by z > 1/2. `top_down` lets layers read the
    one above after a boundary of their own. `initial_boundary` is z_0, and `boundary_bias` where
    the bias of z̃ starts. `read_out=concat` has no gates, `top` reads the top layer alone.

    The loss "boundary_rate", which is of no paper, is there if `boundary_rate_weight` is: Σ_ℓ (mean
    z^ℓ − rate^ℓ)² over layers with a boundary, ℓ = 1 at the bottom. Means are over the valid frames
    of a batch, and of the z that go forward: hard ones have the gradient of relaxed ones.

    Maps: "spatial" (B, T, K, K), that of the bottom layer, through which every frame goes;
    `attention=` replaces it alone. With `attend=layers` and several layers "spatial_of_layers" is
    (B, T, layers, K, K). "boundary" and "operation" (B, T, layers), the latter 0 COPY, 1 UPDATE, 2
    FLUSH. Where temperatures are adaptive, "boundary_temperature" (B, T, layers with a boundary),
    "attention_temperature" (B, T) and, as of "spatial", "attention_temperature_of_layers".
    """

    source: ClassVar[str] = "Yan, Smith, Lu, Zhang 2017, arXiv 1708.07590, abstract"
    weight_decay: ClassVar[float] = 1e-5
    takes_attention: ClassVar[bool] = True
    reported_maps: ClassVar[tuple[str, ...]] = ("boundary",)
    reads_cubes: ClassVar[bool] = True
    map_meanings: ClassVar[MapMeanings] = {
        "spatial": LOOKS,
        "spatial_of_layers": LAYERS_LOOK,
        "boundary": MapMeaning(
            "where each layer ends a segment", "level", rows="layer", codes=("no", "yes")
        ),
        "operation": MapMeaning(
            "what each layer does", rows="layer", codes=("copy", "update", "flush")
        ),
        "boundary_temperature": MapMeaning(
            "temperature at which an end is chosen (0 is hard)", rows="layer"
        ),
        "attention_temperature": MapMeaning("temperature at which a place is chosen (0 is hard)"),
        "attention_temperature_of_layers": MapMeaning(
            "temperature at which each layer chooses a place (0 is hard)", rows="layer"
        ),
    }

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        attention: Literal["soft", "hard"] = "hard",
        attention_size: PositiveInt = 128,
        query: Literal["bottom", "top", "all"] = "bottom",
        layers: Depth = 3,
        hidden: PositiveInt = 128,
        dropout: Dropout = 0.5,
        boundary: Literal["gumbel", "slope", "zeros", "ones"] = "gumbel",
        top_boundary: bool = False,
        temperature: Literal["constant", "annealed", "adaptive"] = "adaptive",
        tau: Annotated[float, Ge(LOWEST_TEMPERATURE)] = 0.5,
        anneal_epochs: PositiveInt = 10,
        attend: Literal["bottom", "layers"] = "bottom",
        choices: Literal["hard", "relaxed"] = "hard",
        top_down: bool = True,
        initial_boundary: Literal[0, 1] = 0,
        boundary_bias: float = 0.0,
        boundary_rate: Annotated[float, Ge(0), Le(1)] = 0.5,
        boundary_rate_weight: NonNegativeFloat = 0.0,
        read_out: Literal["gated", "concat", "top"] = "gated",
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        refuse_idle(boundary, layers, attend=attend, query=query, read_out=read_out)
        refuse_forced(
            boundary, attention, choices, initial_boundary, boundary_bias, boundary_rate_weight
        )
        refuse_missing(layers, top_boundary, initial_boundary, boundary_bias, boundary_rate_weight)
        self.attention, self.boundary, self.choices = attention, boundary, choices
        self.query, self.temperature, self.tau, self.rate = query, temperature, tau, boundary_rate
        if boundary_rate_weight:
            self.weigh_losses(boundary_rate=boundary_rate_weight)
        query_size = layers * hidden if query == "all" else hidden
        num_above = layers - 1 if attend == "layers" else 0
        self.attend = ContentAttention(query_size, self.dim, attention_size)
        self.initial_state = InitialState(self.dim, hidden, num_layers=layers)
        self.lstm = HMLSTM(
            self.dim,
            hidden,
            num_layers=layers,
            top_boundary=top_boundary,
            top_down=top_down,
            has_scores=boundary not in FORCED,
            boundary_bias=boundary_bias,
            beside_size=self.dim if num_above else 0,
        )
        self.num_ended = self.lstm.num_boundaries if initial_boundary else 0
        self.output = build_read_out(read_out, hidden, num_classes, layers, dropout)
        self._build_temperatures(query_size, hidden, num_above)
        # Of the layers above the bottom, which come with `attend=layers`.
        self.attend_above = nn.ModuleList(
            ContentAttention(hidden, self.dim, attention_size) for _ in range(num_above)
        )
        anneals = temperature == "annealed" or boundary == "slope"
        self.clock = AnnealingClock(anneal_epochs) if anneals else None

    def _build_temperatures(self, query_size: int, hidden_size: int, num_above: int) -> None:
        adapts = self.temperature == "adaptive"
        looks, draws = adapts and self.attention == "hard", adapts and self.boundary == "gumbel"
        self.attention_temperature = AdaptiveTemperature(query_size) if looks else None
        num_drawn = self.lstm.num_boundaries if draws else 0
        self.boundary_temperatures = adaptive_temperatures(hidden_size, num_drawn)
        self.temperatures_above = adaptive_temperatures(hidden_size, num_above if looks else 0)

    def condense(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cube (B, D), from which the state starts."""
        return {"mean": masked_mean(batch.frames, batch.mask)}

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Count the steps of an epoch, where something is annealed."""
        if self.clock is not None:
            self.clock.count_epoch(batches)

    def forward(self, batch: Batch, *, attention: AttentionMap | None = None) -> HeadOutput:
        """See `Head`."""
        if self.clock is not None and self.training:
            self.clock.tick()
        sampling = self._sampling(rearrange(batch.top, "b t h w d -> b t (h w) d"))
        steps = self._recur(batch, attention, sampling)
        weights = rearrange(steps.weights, "b t looks (h w) -> b t looks h w", w=self.grid_size)
        maps = {
            "spatial": weights[:, :, 0],
            "boundary": steps.boundary,
            "operation": operations(steps.boundary, num_ended=self.num_ended),
            **({"spatial_of_layers": weights} if self.attend_above else {}),
            **sampling.temperatures(steps.hidden, steps.queries, is_looking=attention is None),
        }
        maps = {name: zero_masked(values, batch.mask) for name, values in maps.items()}
        losses = {}
        if self.loss_weights:
            ends = steps.boundary[..., : self.lstm.num_boundaries]
            losses["boundary_rate"] = boundary_rate_penalty(ends, batch.mask, self.rate)
        return HeadOutput(logits=self.output(steps.hidden), maps=maps, losses=losses)

    def _recur(
        self, batch: Batch, attention: Float[Tensor, "b t k k"] | None, sampling: Sampling
    ) -> Steps:
        cubes = rearrange(batch.top, "b t h w d -> b t (h w) d")
        initial = self.initial_state(self.condensed(batch)["mean"])
        state = without_boundaries(initial, except_lowest=self.num_ended)
        given = None if attention is None else rearrange(attention, "b t h w -> b t (h w)")
        # Whatever does not depend on the state is computed here, for all frames at once.
        looks = [*([self.attend] if given is None else []), *self.attend_above]
        keys = [look.project(cubes).unbind(1) for look in looks]
        step = self.lstm.steps(num_steps=cubes.shape[1], num_clips=len(cubes))
        done = []
        for t, frame in enumerate(cubes.unbind(1)):
            queries = self._queries(state)
            weights = [] if given is None else [given[:, t]]
            for look, of_frames in zip(looks, keys, strict=True):
                index = len(weights)
                scores = look(queries[index], of_frames[t])
                weights.append(sampling.look(t, index, scores, queries[index]))
            seen, *beside = torch.bmm(torch.stack(weights, dim=1), frame).unbind(1)
            state = step(seen, state, partial(sampling.detect, t), beside)
            hidden = torch.stack([layer.hidden for layer in state], dim=1)
            boundary = torch.cat([layer.boundary for layer in state], dim=1)
            done.append((torch.stack(queries, 1), torch.stack(weights, 1), hidden, boundary))
        return Steps(*(torch.stack(parts, dim=1) for parts in zip(*done, strict=True)))

    def _queries(self, state: list[LayerState]) -> list[Float[Tensor, "b q"]]:
        """Return what looks, one per look, that of the bottom layer first."""
        hidden = [layer.hidden for layer in state]
        if self.attend_above:
            return hidden
        if self.query == "all":
            return [torch.cat(hidden, dim=1)]
        return hidden[:1] if self.query == "bottom" else hidden[-1:]

    def _sampling(self, cubes: Float[Tensor, "b t p d"]) -> Sampling:
        """Return how to choose: how sharp choices are by now, and in training the noise."""
        temperature: Tensor | float = self.tau
        slope: Tensor | float = 1.0
        if self.clock is not None:
            progress = self.clock()
            slope = annealed_slope(progress)
            if self.temperature == "annealed":
                temperature = annealed_temperature(progress, lowest=self.tau)
        lowest = self.attention_temperature
        sampling = Sampling(
            self.attention,
            self.boundary,
            temperature,
            slope,
            [] if lowest is None else [lowest, *self.temperatures_above],
            self.boundary_temperatures,
            is_relaxed=self.choices == "relaxed",
        )
        if not self.training:
            return sampling
        num_looks, num_layers = 1 + len(self.attend_above), len(self.lstm.layers)
        return sampling.with_noise(cubes, looks=num_looks, layers=num_layers)
