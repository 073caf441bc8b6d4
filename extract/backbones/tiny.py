"""``tiny:conv``: a seeded two-layer convolution, for trying things out where no weights are."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from extract.backbones.registry import (
    InputConfig,
    LoadedNetwork,
    NamedMaps,
    YieldsMaps,
    register_source,
)
from extract.backbones.weights import load_into, read_state_dict, state_sha256
from features_store.errors import UsageError


class TinyConv(YieldsMaps):
    """Two convolutions with ReLU: (b, 3, 56, 56) to 14 × 14 × 8 and 7 × 7 × 16."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU())
        self.top = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU())
        for parameter in self.parameters():
            with torch.no_grad():
                parameter.normal_(0, 0.3, generator=generator)

    def feature_maps(self, pictures: Float[Tensor, "b 3 56 56"]) -> Iterator[tuple[str, Tensor]]:
        """Yield (layer name, map)."""
        stem = self.stem(pictures)
        yield "stem", stem
        yield "top", self.top(stem)


def _networks() -> dict[str, str]:
    return {"conv": "seeded two-layer convolution, to try things out without weights"}


@register_source("tiny", _networks)
def load_tiny(name: str, weights: Path | None, trained: bool) -> LoadedNetwork:
    """Return the network ``conv``, the only one there is; its own weights are its seed's."""
    if name != "conv":
        raise UsageError(f"no backbone 'tiny:{name}'; there is tiny:conv")
    network = TinyConv()
    if weights is not None:
        load_into(network, read_state_dict(weights), origin=str(weights))
    config = InputConfig((56, 56), 64, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    cut_at = partial(NamedMaps, network, known=("stem", "top"), backbone="tiny:conv")
    return LoadedNetwork(network, config, state_sha256(network), cut_at)
