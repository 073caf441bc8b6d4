"""Layers pooled to a smaller grid, so that a pyramid has one grid: ``inception_4e@avg7``."""

import re
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from features_store.errors import UsageError

_POOLED = re.compile(r"(.+)@(avg|max)([1-9][0-9]{0,3})")


def base_layer(name: str) -> str:
    """Return the network's own layer that a layer is pooled from; a plain layer is its own.

    >>> base_layer("inception_4e@avg7"), base_layer("inception_5b")
    ('inception_4e', 'inception_5b')
    """
    match = _POOLED.fullmatch(name)
    return match[1] if match else name


class PooledMaps(nn.Module):
    """Runs a network for the layers that some are pooled from, and pools them.

    The cells of a pooled map are those of an adaptive pool: row i of G averages, or takes the
    maximum over, rows ⌊iK/G⌋ to ⌈(i+1)K/G⌉.

    Args:
        network: pictures to a dict: layer name -> map (b, d, k, k).
        layers: names, plain or pooled, in the order in which they are returned.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self._layers = tuple(layers)

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Return layer name -> (b, d, k, k)."""
        maps = self.network(pictures)
        return {name: _pool(name, maps[base_layer(name)]) for name in self._layers}


def _pool(name: str, feature_map: Tensor) -> Tensor:
    match = _POOLED.fullmatch(name)
    if match is None:
        return feature_map
    grid_size, size = int(match[3]), min(feature_map.shape[2:])
    if grid_size > size:
        raise UsageError(
            f"layer {name!r} cannot be pooled to {grid_size}×{grid_size}: {match[1]!r} has "
            f"{feature_map.shape[2]}×{feature_map.shape[3]} cells"
        )
    pool = F.adaptive_avg_pool2d if match[2] == "avg" else F.adaptive_max_pool2d
    pooled: Tensor = pool(feature_map, grid_size)
    return pooled
