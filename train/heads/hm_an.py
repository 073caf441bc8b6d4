"""Hierarchical multi-scale attention network, HM-AN (Yan, Smith, Lu, Zhang 2017, arXiv 1708.07590).

A hierarchical multiscale LSTM over attended frames. Boundaries of segments and, with
`attention=hard`, the cell that is looked at are discrete: drawn from Gumbel distributions in
training, the most probable ones in evaluation. The paper's text was not at hand beyond its
abstract: query, initial state and read-out follow its two foundations, Chung et al. (2016) and
Sharma et al. (2015).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from annotated_types import Ge
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import AttentionMap, Head
from train.heads.blocks.gumbel import (
    LOWEST_TEMPERATURE,
    AdaptiveTemperature,
    AnnealingClock,
    annealed_slope,
    annealed_temperature,
    gumbel_noise,
    gumbel_sigmoid,
    gumbel_softmax,
    hard_sigmoid,
    logistic_noise,
    straight_through_one_hot,
    straight_through_threshold,
)
from train.heads.blocks.hm_lstm import (
    HMLSTM,
    GatedOutput,
    LayerState,
    operations,
    without_boundaries,
)
from train.heads.blocks.masked import masked_mean, zero_masked
from train.heads.blocks.recurrent import InitialState
from train.heads.options import Dropout, PositiveInt
from train.heads.registry import register_head
from train.heads.soft_attention import ContentAttention


@dataclass(frozen=True)
class Sampling:
    """What the discrete choices of one pass over a batch have in common; no noise in evaluation."""

    temperature: Tensor | float
    slope: Tensor | float
    attention_noise: Float[Tensor, "t b p"] | None
    boundary_noise: Float[Tensor, "t layers b 1"] | None


class Steps(NamedTuple):
    """What came of all steps; `query` and `weights` led to the others."""

    query: Float[Tensor, "b t q"]
    weights: Float[Tensor, "b t p"]
    hidden: Float[Tensor, "b t layers n"]
    boundary: Float[Tensor, "b t layers"]


@register_head("hm-an")
class HMAN(Head):
    """Attention, an HM-LSTM with up to `layers` time scales, and a gated read-out; logits per step.

    `attention=soft` takes the weighted mean of the cells, `hard` a single cell by Gumbel-softmax.
    Its query is the hidden state of the bottom layer, the top one, or all (`query`).
    `boundary=gumbel` draws boundaries by Gumbel-sigmoid, `slope` rounds a hard sigmoid whose slope
    is annealed from 1 to 5, as in Chung et al. (2016). The `temperature` of Gumbel distributions is
    a `constant` tau, is `annealed` from 1 to tau, or is `adaptive`, where the state says it.
    Annealing takes `anneal_epochs`; Chung et al. take 100.

    Maps: "spatial" (B, T, K, K); "boundary" and "operation" (B, T, layers), the latter 0 COPY,
    1 UPDATE, 2 FLUSH; with adaptive temperature "boundary_temperature" (B, T, layers with a
    boundary) and "attention_temperature" (B, T) of those choices that have one.
    """

    source: ClassVar[str] = "Yan, Smith, Lu, Zhang 2017, arXiv 1708.07590, abstract"
    weight_decay: ClassVar[float] = 1e-5
    takes_attention: ClassVar[bool] = True
    reported_maps: ClassVar[tuple[str, ...]] = ("boundary",)
    reads_cubes: ClassVar[bool] = True

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        attention: Literal["soft", "hard"] = "hard",
        attention_size: PositiveInt = 128,
        query: Literal["bottom", "top", "all"] = "bottom",
        layers: PositiveInt = 3,
        hidden: PositiveInt = 128,
        dropout: Dropout = 0.5,
        boundary: Literal["gumbel", "slope"] = "gumbel",
        top_boundary: bool = False,
        temperature: Literal["constant", "annealed", "adaptive"] = "adaptive",
        tau: Annotated[float, Ge(LOWEST_TEMPERATURE)] = 0.5,
        anneal_epochs: PositiveInt = 10,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        self.is_hard, self.query, self.boundary = attention == "hard", query, boundary
        self.temperature, self.tau = temperature, tau
        query_size = layers * hidden if query == "all" else hidden
        self.attend = ContentAttention(query_size, self.dim, attention_size)
        self.initial_state = InitialState(self.dim, hidden, num_layers=layers)
        self.lstm = HMLSTM(self.dim, hidden, num_layers=layers, top_boundary=top_boundary)
        self.output = GatedOutput(hidden, num_classes, num_layers=layers, dropout=dropout)
        adapts = temperature == "adaptive"
        self.attention_temperature = (
            AdaptiveTemperature(query_size) if adapts and self.is_hard else None
        )
        num_drawn = layers - 1 + top_boundary if adapts and boundary == "gumbel" else 0
        self.boundary_temperatures = nn.ModuleList(
            AdaptiveTemperature(hidden) for _ in range(num_drawn)
        )
        anneals = temperature == "annealed" or boundary == "slope"
        self.clock = AnnealingClock(anneal_epochs) if anneals else None

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
        steps = self._recur(batch, attention)
        maps = {
            "spatial": rearrange(steps.weights, "b t (h w) -> b t h w", h=batch.top.shape[2]),
            "boundary": steps.boundary,
            "operation": operations(steps.boundary),
            **self._temperatures(steps, is_looking=attention is None),
        }
        maps = {name: zero_masked(values, batch.mask) for name, values in maps.items()}
        return HeadOutput(logits=self.output(steps.hidden), maps=maps, losses={})

    def _recur(self, batch: Batch, attention: Float[Tensor, "b t k k"] | None) -> Steps:
        cubes = rearrange(batch.top, "b t h w d -> b t (h w) d")
        state = without_boundaries(self.initial_state(self.condensed(batch)["mean"]))
        given = None if attention is None else rearrange(attention, "b t h w -> b t (h w)")
        # Whatever does not depend on the state is computed here, for all frames at once.
        keys = self.attend.keys(cubes) if given is None else cubes
        sampling = self._sampling(cubes)
        step = self.lstm.steps(num_steps=cubes.shape[1], num_clips=len(cubes))
        done = []
        for t, (frame, frame_keys) in enumerate(zip(cubes.unbind(1), keys.unbind(1), strict=True)):
            query = self._query(state)
            weights = (
                given[:, t] if given is not None else self._look(query, frame_keys, t, sampling)
            )
            inputs = torch.bmm(weights.unsqueeze(1), frame).squeeze(1)
            state = step(inputs, state, partial(self._detect, t=t, sampling=sampling))
            hidden = torch.stack([layer.hidden for layer in state], dim=1)
            boundary = torch.cat([layer.boundary for layer in state], dim=1)
            done.append((query, weights, hidden, boundary))
        return Steps(*(torch.stack(parts, dim=1) for parts in zip(*done, strict=True)))

    def _query(self, state: list[LayerState]) -> Float[Tensor, "b q"]:
        if self.query == "all":
            return torch.cat([layer.hidden for layer in state], dim=1)
        return state[0 if self.query == "bottom" else -1].hidden

    def _look(
        self,
        query: Float[Tensor, "b q"],
        keys: Float[Tensor, "b p a"],
        t: int,
        sampling: Sampling,
    ) -> Float[Tensor, "b p"]:
        """Return the weights of the cells of frame `t`: a distribution, or one of them."""
        scores: Tensor = self.attend(query, keys)
        if not self.is_hard:
            return scores.softmax(dim=-1)
        adaptive = self.attention_temperature
        temperature = sampling.temperature if adaptive is None else adaptive(query)
        noise = None if sampling.attention_noise is None else sampling.attention_noise[t]
        return straight_through_one_hot(gumbel_softmax(scores, temperature, noise))

    def _detect(
        self,
        layer: int,
        scores: Float[Tensor, "b 1"],
        hidden: Float[Tensor, "b n"],
        *,
        t: int,
        sampling: Sampling,
    ) -> Float[Tensor, "b 1"]:
        """Return the boundary of `layer` at frame `t`, 0 or 1."""
        if self.boundary == "slope":
            return straight_through_threshold(hard_sigmoid(scores, sampling.slope))
        temperature = sampling.temperature
        if self.temperature == "adaptive":
            temperature = self.boundary_temperatures[layer](hidden)
        noise = None if sampling.boundary_noise is None else sampling.boundary_noise[t, layer]
        return straight_through_threshold(gumbel_sigmoid(scores, temperature, noise))

    def _sampling(self, cubes: Float[Tensor, "b t p d"]) -> Sampling:
        """Return the noise of a whole batch, and how sharp choices are by now."""
        temperature: Tensor | float = self.tau
        slope: Tensor | float = 1.0
        if self.clock is not None:
            progress = self.clock()
            slope = annealed_slope(progress)
            if self.temperature == "annealed":
                temperature = annealed_temperature(progress, lowest=self.tau)
        if not self.training:
            return Sampling(temperature, slope, None, None)
        B, T, P, _ = cubes.shape
        return Sampling(
            temperature,
            slope,
            attention_noise=gumbel_noise((T, B, P), like=cubes) if self.is_hard else None,
            boundary_noise=logistic_noise((T, len(self.lstm.layers), B, 1), like=cubes)
            if self.boundary == "gumbel"
            else None,
        )

    @torch.no_grad()
    def _temperatures(self, steps: Steps, *, is_looking: bool) -> dict[str, Tensor]:
        """Return the adaptive temperatures, (B, T, layers with a boundary) and (B, T)."""
        temperatures = {}
        if len(self.boundary_temperatures):
            hidden = steps.hidden.detach().unbind(2)
            of_layers = zip(self.boundary_temperatures, hidden, strict=False)
            taus = [adaptive(of_layer) for adaptive, of_layer in of_layers]
            temperatures["boundary_temperature"] = torch.cat(taus, dim=-1)
        if self.attention_temperature is not None and is_looking:
            tau = self.attention_temperature(steps.query.detach())
            temperatures["attention_temperature"] = tau.squeeze(-1)
        return temperatures
