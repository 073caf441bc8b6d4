"""The discrete choices of HM-AN: which cell is looked at, and where a segment ends."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from train.heads.blocks.gumbel import (
    AdaptiveTemperature,
    Temperature,
    gumbel_noise,
    gumbel_sigmoid,
    gumbel_softmax,
    hard_sigmoid,
    logistic_noise,
    straight_through_one_hot,
    straight_through_threshold,
)

# Boundaries that are not detected but the same at every step.
FORCED = {"zeros": 0.0, "ones": 1.0}

Adaptive = Sequence[nn.Module] | nn.ModuleList


@dataclass(frozen=True)
class Sampling:
    """How one pass over a batch looks and detects; without noise, the most probable is chosen.

    Attributes:
        temperature: where no state says it.
        attention_temperatures, boundary_temperatures: what asks the state, one per look and one per
            layer with a boundary, or none.
        is_relaxed: relaxed choices go forward, not hard ones that have the gradient of these.
    """

    attention: Literal["soft", "hard"]
    boundary: Literal["gumbel", "slope", "zeros", "ones"]
    temperature: Temperature
    slope: Temperature
    attention_temperatures: Adaptive
    boundary_temperatures: Adaptive
    is_relaxed: bool
    attention_noise: Float[Tensor, "t looks b p"] | None = None
    boundary_noise: Float[Tensor, "t layers b 1"] | None = None

    def with_noise(self, cubes: Float[Tensor, "b t p d"], *, looks: int, layers: int) -> "Sampling":
        """Return the same with the noise of all steps."""
        B, T, P, _ = cubes.shape
        of_cells, of_layers = (T, looks, B, P), (T, layers, B, 1)
        is_hard, is_drawn = self.attention == "hard", self.boundary == "gumbel"
        return replace(
            self,
            attention_noise=gumbel_noise(of_cells, like=cubes) if is_hard else None,
            boundary_noise=logistic_noise(of_layers, like=cubes) if is_drawn else None,
        )

    def look(
        self, t: int, index: int, scores: Float[Tensor, "b p"], query: Float[Tensor, "b q"]
    ) -> Float[Tensor, "b p"]:
        """Return the weights of the cells of frame `t`: a distribution, or one of them."""
        if self.attention == "soft":
            return scores.softmax(dim=-1)
        noise = None if self.attention_noise is None else self.attention_noise[t, index]
        temperature = self._temperature(self.attention_temperatures, index, query)
        relaxed = gumbel_softmax(scores, temperature, noise)
        return relaxed if self.is_relaxed else straight_through_one_hot(relaxed)

    def detect(
        self, t: int, layer: int, scores: Float[Tensor, "b rows"], hidden: Float[Tensor, "b n"]
    ) -> Float[Tensor, "b 1"]:
        """Return the boundary of `layer` at frame `t`, 0 or 1 unless relaxed."""
        if self.boundary in FORCED:
            return torch.full_like(hidden[:, :1], FORCED[self.boundary])
        if self.boundary == "slope":
            relaxed = hard_sigmoid(scores, self.slope)
        else:
            noise = None if self.boundary_noise is None else self.boundary_noise[t, layer]
            temperature = self._temperature(self.boundary_temperatures, layer, hidden)
            relaxed = gumbel_sigmoid(scores, temperature, noise)
        return relaxed if self.is_relaxed else straight_through_threshold(relaxed)

    def temperatures(
        self,
        hidden: Float[Tensor, "b t layers n"],
        queries: Float[Tensor, "b t looks q"],
        *,
        is_looking: bool,
    ) -> dict[str, Tensor]:
        """Return the maps of adaptive temperatures, of those choices that have one.

        They are (B, T, layers with a boundary), (B, T) and, of several looks, (B, T, looks).
        """
        maps = {}
        if len(self.boundary_temperatures):
            maps["boundary_temperature"] = _ask(self.boundary_temperatures, hidden)
        if len(self.attention_temperatures) and is_looking:
            of_looks = _ask(self.attention_temperatures, queries)
            maps["attention_temperature"] = of_looks[..., 0]
            if of_looks.shape[-1] > 1:
                maps["attention_temperature_of_layers"] = of_looks
        return maps

    def _temperature(self, adaptive: Adaptive, index: int, state: Tensor) -> Temperature:
        if not len(adaptive):
            return self.temperature
        temperature: Tensor = adaptive[index](state)
        return temperature


def adaptive_temperatures(size: int, number: int) -> nn.ModuleList:
    """Return so many, each of a state of this size."""
    return nn.ModuleList(AdaptiveTemperature(size) for _ in range(number))


@torch.no_grad()
def _ask(adaptive: Adaptive, states: Float[Tensor, "b t states n"]) -> Float[Tensor, "b t some"]:
    """Return the temperatures that states ask for, the first for the first; without a gradient."""
    of_states = zip(adaptive, states.detach().unbind(2), strict=False)
    return torch.cat([each(state) for each, state in of_states], dim=-1)
