"""What a backbone is, and the registry of the sources that backbones come from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from extract.backbones.pooled import PooledMaps, base_layer
from extract.backbones.sources import MODULES, list_sources, registered, split_name
from features_store.errors import UsageError, nearest_name
from features_store.format.layout import LayerShape


@dataclass(frozen=True)
class InputConfig:
    """The input a network was trained on, from its weights' own metadata.

    Attributes as in `features_store.spec.Preprocessing`.
    """

    input_size: tuple[int, int]
    resize_size: int
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pixel_scale: float = 255.0
    channel_order: Literal["rgb", "bgr"] = "rgb"


@dataclass(frozen=True)
class LoadedNetwork:
    """What a source returns: the network, what it expects, the digest of its weights.

    Attributes:
        network: the whole of it, which the digest covers; its submodules are in the order in which
            they are run, as far as `modules_between` is to find what follows a layer.
        cut_at: layer names to the part that computes them, which takes normalised pictures
            (b, 3, h, w) to a dict: layer name -> map (b, d, k, k). No name is the last map.
    """

    network: nn.Module
    config: InputConfig
    weights_sha256: str
    cut_at: Callable[[Sequence[str]], nn.Module]


# Name, weights file, and whether there are to be weights at all: untrained, a network is its shape.
Source = Callable[[str, Path | None, bool], LoadedNetwork]
# Name -> what is to be said of it, of every network that a source has.
ListNetworks = Callable[[], Mapping[str, str]]
_SOURCES: dict[str, tuple[Source, ListNetworks]] = {}


def register_source(name: str, networks: ListNetworks) -> Callable[[Source], Source]:
    """Decorate a `Source`; `networks` lists what it has."""

    def register(source: Source) -> Source:
        if name in _SOURCES:
            other, _ = _SOURCES[name]
            raise ValueError(f"backbone source {name!r} is already registered, by {other}")
        _SOURCES[name] = source, networks
        registered.add(name)
        return source

    return register


def list_backbones() -> dict[str, str]:
    """Return every network of every source as ``source:name``, with what is to be said of it."""
    for module in MODULES.values():
        import_module(module)
    return {
        f"{source}:{name}": about
        for source in list_sources()
        for name, about in _SOURCES[source][1]().items()
    }


class Backbone(nn.Module):
    """A frozen network: normalised pictures to cubes.

    Attributes:
        name: ``source:name``.
        asked_layers: names as they were asked for; none for the last map.
        layers: what it returns, with shapes measured by one forward pass of zeros.
    """

    def __init__(self, name: str, loaded: LoadedNetwork, layers: Sequence[str] = ()) -> None:
        super().__init__()
        self.name = name
        self.asked_layers = tuple(layers)
        self.config = loaded.config
        self.weights_sha256 = loaded.weights_sha256
        loaded.network.requires_grad_(False)
        part = loaded.cut_at(list(dict.fromkeys(map(base_layer, layers))))
        self.network = PooledMaps(part, layers) if layers else part
        self.eval()
        self.layers = self._measure()

    @torch.inference_mode()
    def _measure(self) -> tuple[LayerShape, ...]:
        maps = self.network(torch.zeros(1, 3, *self.config.input_size))
        return tuple(_layer_shape(self.name, layer, tuple(m.shape)) for layer, m in maps.items())

    @torch.inference_mode()
    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Return layer name -> cubes (b, k, k, d)."""
        return {layer: m.permute(0, 2, 3, 1) for layer, m in self.network(pictures).items()}


def _layer_shape(backbone: str, layer: str, shape: tuple[int, ...]) -> LayerShape:
    if len(shape) != 4 or shape[2] != shape[3]:
        raise UsageError(
            f"layer {layer!r} of {backbone} gives {shape}, not a square map (1, D, K, K); "
            "choose another with `layer`"
        )
    return LayerShape(layer, grid_size=shape[2], dim=shape[1])


def load_backbone(
    name: str, *, weights: Path | None = None, layers: Sequence[str] = ()
) -> Backbone:
    """Load a frozen backbone.

    Args:
        layers: of the network, or pooled ones such as ``inception_4e@avg7``; empty means its last
            feature map.

    Raises:
        UsageError: the name has no source, or source, network or layer do not exist.
        ContractError: the weights do not fit the network.
    """
    return Backbone(name, load_network(name, weights=weights), layers)


def load_network(name: str, *, weights: Path | None = None, trained: bool = True) -> LoadedNetwork:
    """Load a whole network.

    Args:
        trained: False builds it with random weights, from no file and no download.

    Raises:
        UsageError: the name has no source, or source or network do not exist.
        ContractError: the weights do not fit the network.
    """
    source, rest = split_name(name)
    if source in MODULES:
        import_module(MODULES[source])
    load, _ = _SOURCES[source]
    return load(rest, weights, trained)


class YieldsMaps(nn.Module):
    """A network of ours: computes its feature maps one after the other."""

    def feature_maps(self, pictures: Float[Tensor, "b 3 h w"]) -> Iterator[tuple[str, Tensor]]:
        """Yield (layer name, map), so that the caller can stop after the last one it wants."""
        raise NotImplementedError


class NamedMaps(nn.Module):
    """Runs a network of ours as far as the last layer that is wanted.

    Args:
        network: of ours, so it yields (layer name, map) in order.
        known: names that it yields.
    """

    def __init__(
        self, network: YieldsMaps, layers: Sequence[str], *, known: Sequence[str], backbone: str
    ) -> None:
        super().__init__()
        self.network = network
        self._layers = tuple(layers) or (known[-1],)
        for layer in self._layers:
            require_layer(layer, known, backbone=backbone)

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Return layer name -> (b, d, k, k), in the order asked for."""
        maps: dict[str, Tensor] = {}
        for name, feature_map in self.network.feature_maps(pictures):
            if name in self._layers:
                maps[name] = feature_map
            if len(maps) == len(self._layers):
                break
        return {layer: maps[layer] for layer in self._layers}


def require_layer(layer: str, known: Sequence[str], *, backbone: str) -> None:
    """Raise `UsageError` for a layer that a backbone does not have."""
    if layer not in known:
        raise UsageError(f"no layer {layer!r} in {backbone}; {nearest_name(layer, list(known))}")
