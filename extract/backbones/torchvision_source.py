"""``torchvision:<name>``: any classification network of torchvision; GoogLeNet is the default.

GoogLeNet's weights come from TensorFlow, and torchvision undoes its own normalisation inside
`forward` (``transform_input``). So the usual mean and std go in, and ``transform_input`` must be
on: off, or normalising to ±1 outside as well, gives plausible and wrong features.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from extract.backbones.registry import (
    InputConfig,
    LoadedNetwork,
    register_source,
    require_layer,
)
from extract.backbones.weights import load_into, read_state_dict, state_sha256
from features_store.errors import MachineError, UsageError, nearest_name

TOP_LAYERS = {"googlenet": "inception5b", "inception_v3": "Mixed_7c"}
_INCEPTIONS = ("googlenet", "inception_v3")


def _networks() -> dict[str, str]:
    return dict.fromkeys(torchvision.models.list_models(module=torchvision.models), "")


@register_source("torchvision", _networks)
def load_torchvision(name: str, weights: Path | None, trained: bool) -> LoadedNetwork:
    """Build a network with weights from a file, or by torchvision's own download and cache."""
    models = torchvision.models.list_models(module=torchvision.models)
    if name not in models:
        raise UsageError(f"no backbone 'torchvision:{name}'; {nearest_name(name, models)}")
    enum = torchvision.models.get_model_weights(name)
    metadata = enum.DEFAULT if weights is None else _classic(enum)
    network = _build(name)
    if trained:
        state = _download(name, metadata) if weights is None else read_state_dict(weights)
        load_into(network, state, origin=str(weights or metadata), ignore=("aux", "AuxLogits"))

    def cut_at(layers: Sequence[str]) -> nn.Module:
        wanted = layers or (_top_layer(name, network),)
        return _cut_at(network, wanted, backbone=f"torchvision:{name}")

    return LoadedNetwork(network, _input_config(metadata), state_sha256(network), cut_at)


def _cut_at(network: nn.Module, layers: Sequence[str], *, backbone: str) -> nn.Module:
    """Return the part of a network that computes the outputs of the named submodules."""
    for layer in layers:
        known = [name for name, _ in network.named_modules() if name]
        top = [name for name in known if "." not in name]
        require_layer(layer, known if layer in known or "." in layer else top, backbone=backbone)
    part: nn.Module = create_feature_extractor(network.eval(), {name: name for name in layers})
    return part


def _classic(enum: Any) -> Any:
    """Return the weights whose preprocessing a file is taken to share: the first published."""
    return next(iter(enum))


def _build(name: str) -> nn.Module:
    options: dict[str, Any] = {}
    if name in _INCEPTIONS:
        options = {"aux_logits": False, "init_weights": False, "transform_input": True}
    network: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return network


def _download(name: str, metadata: Any) -> dict[str, Any]:
    try:
        state: dict[str, Any] = metadata.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as err:
        raise MachineError(
            f"cannot download the weights of torchvision:{name}: {err}; "
            "fetch them on a machine with internet access and give `weights` FILE"
        ) from err
    return state


def _top_layer(name: str, network: nn.Module) -> str:
    """Return the last submodule before pooling: known for some, `layer4` or `features` for most."""
    for layer in (TOP_LAYERS.get(name), "layer4", "features"):
        if layer is not None and hasattr(network, layer):
            return layer
    raise UsageError(f"which layer of torchvision:{name} is its cube? Name it with `layer`")


def _input_config(metadata: Any) -> InputConfig:
    transforms = metadata.transforms()
    (crop,), (resize,) = transforms.crop_size, transforms.resize_size
    return InputConfig(
        input_size=(crop, crop),
        resize_size=resize,
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
