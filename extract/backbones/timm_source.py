"""``timm:<name>``: any network of timm, with its own preprocessing; ViT patch grids as cubes too.

Layers are the names of timm's ``feature_info`` (``layer3``, ``blocks.6``, …); the last by default.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub.constants import ENDPOINT
from jaxtyping import Float
from torch import Tensor, nn

from extract.backbones.hub import hub_or_cache
from extract.backbones.registry import (
    InputConfig,
    LoadedNetwork,
    register_source,
    require_layer,
)
from extract.backbones.weights import load_into, read_state_dict, state_sha256
from features_store.errors import MachineError, UsageError, nearest_name


class IntermediateLayers(nn.Module):
    """Feature maps of named stages or blocks, (b, d, k, k) each, by `forward_intermediates`."""

    def __init__(self, network: Any, layers: Sequence[str], *, backbone: str) -> None:
        super().__init__()
        self.network = network
        known = [stage["module"] for stage in network.feature_info]
        for layer in layers:
            require_layer(layer, known, backbone=backbone)
        self._layers = tuple(layers) or (known[-1],)
        self._indices = sorted(known.index(layer) for layer in self._layers)
        self._in_order = [known[index] for index in self._indices]

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Return layer name -> (b, d, k, k), in the order asked for."""
        maps = self.network.forward_intermediates(
            pictures, indices=self._indices, intermediates_only=True, output_fmt="NCHW"
        )
        found = dict(zip(self._in_order, maps, strict=True))
        return {layer: found[layer] for layer in self._layers}


@register_source("timm", lambda: dict.fromkeys(timm.list_models(), ""))
def load_timm(name: str, weights: Path | None, trained: bool) -> LoadedNetwork:
    """Build a network with weights from a file, or by timm's own download and cache."""
    backbone = f"timm:{name}"
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        known = timm.list_models()
        raise UsageError(f"no backbone {backbone!r}; {nearest_name(architecture, known)}")
    network = _create(name, pretrained=trained and weights is None)
    if not hasattr(network, "forward_intermediates"):
        raise UsageError(
            f"{backbone} has no forward_intermediates in timm {timm.__version__}, so its feature "
            "maps cannot be read by name; choose another network"
        )
    if weights is not None:
        load_into(network, read_state_dict(weights), origin=str(weights))
    # Everything after the last feature map is dead weight, but the digest covers it: the weights
    # that were given are the weights that are named.
    digest = state_sha256(network)
    config = timm.data.resolve_model_data_config(network)
    cut_at = partial(IntermediateLayers, network, backbone=backbone)
    return LoadedNetwork(network, _input_config(config), digest, cut_at)


def _create(name: str, *, pretrained: bool) -> Any:
    with torch.random.fork_rng(devices=[]):
        if not pretrained:
            return timm.create_model(name)
        with hub_or_cache() as is_offline:
            return _download(name, is_offline=is_offline)


def _download(name: str, *, is_offline: bool) -> Any:
    try:
        return timm.create_model(name, pretrained=True)
    except RuntimeError as err:
        if "No pretrained weights" in str(err) or "Invalid pretrained tag" in str(err):
            raise UsageError(f"timm:{name}: {err}; give `weights` FILE") from err
        raise
    except Exception as err:
        # The hub's client raises errors of many libraries; all of them mean the same here.
        why = f"no connection to {ENDPOINT}" if is_offline else type(err).__name__
        raise MachineError(
            f"cannot download the weights of timm:{name}: {why}, and they are not in its cache; "
            "fetch them on a machine with internet access and give `weights` FILE"
        ) from err


def _input_config(config: dict[str, Any]) -> InputConfig:
    _, height, width = config["input_size"]
    interpolation = config["interpolation"]
    return InputConfig(
        input_size=(height, width),
        resize_size=max(height, int(min(height, width) / config["crop_pct"])),
        interpolation=interpolation if interpolation in ("bilinear", "bicubic") else "bicubic",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
