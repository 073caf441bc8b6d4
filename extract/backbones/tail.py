"""What follows a layer in its network, up to the last map: a part that can be trained by itself.

Nothing is assumed of a network but that its submodules may run in the order in which they are
registered; whether they do is seen on one picture, and a network that they do not add up to is
refused.
"""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from extract.backbones.pooled import base_layer
from extract.backbones.registry import InputConfig, load_network
from features_store.errors import UsageError

# What modules raise that are run on what they do not take.
_REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, AttributeError)


@dataclass(frozen=True)
class Tail:
    """The layers after a stored one.

    Attributes:
        module: maps of that layer (n, d, k, k) to the network's last maps (n, e, j, j), in
            evaluation mode.
        weights_sha256: of the whole network, as in a store's spec.
    """

    module: nn.Module
    weights_sha256: str


def load_tail(
    backbone: str, layer: str, *, weights: Path | None = None, trained: bool = True
) -> Tail:
    """Return what `backbone` computes after `layer`, with its weights.

    Args:
        weights, trained: as `load_network` has them. Untrained, nothing is compared: numbers may
            overflow in a deep network of random weights, and a head that was fitted has its proof.

    Raises:
        UsageError: the layer is pooled, does not exist or is the last, or the network is not a
            chain from there on.
        ContractError: the weights do not fit the network.
    """
    base = base_layer(layer)
    if base != layer:
        raise UsageError(
            f"layer {layer!r} is pooled, and {backbone} does not go on from a pooled map; "
            f"take {base!r} as it is"
        )
    loaded = load_network(backbone, weights=weights, trained=trained)
    loaded.network.eval()
    pictures = _noise(loaded.config)
    with torch.no_grad():
        # One after the other: a module that works in place would change what the other returned.
        start = loaded.cut_at([layer])(pictures)[layer]
        ((top, expected),) = loaded.cut_at([])(pictures).items()
    module = nn.Sequential(modules_between(loaded.network, layer, top))
    if not module:
        raise UsageError(
            f"layer {layer!r} is where {backbone} ends: no layer is left to train after it; "
            "choose an earlier one"
        )
    if trained and not _continues(module, start, expected):
        raise UsageError(
            f"{backbone} cannot be split after {layer!r}: the modules that follow it "
            f"({', '.join(name for name, _ in module.named_children())}), run one after the "
            f"other, do not give {top!r}"
        )
    return Tail(module.eval(), loaded.weights_sha256)


def modules_between(network: nn.Module, after: str, until: str) -> OrderedDict[str, nn.Module]:
    """Return the modules that follow `after`, up to and including `until`, by name.

    Containers that hold either are opened, all others are left whole; dots in names become
    underscores.

    >>> network = nn.Sequential(nn.Sequential(nn.Tanh(), nn.ReLU()), nn.ELU(), nn.Flatten())
    >>> list(modules_between(network, "0.0", "1").items())
    [('0_1', ReLU()), ('1', ELU(alpha=1.0))]
    """
    while after.startswith(f"{until}."):
        until += f".{list(dict(network.get_submodule(until).named_children()))[-1]}"
    chain: list[tuple[str, nn.Module]] = []

    def open_up(module: nn.Module, prefix: str) -> None:
        for name, child in module.named_children():
            path = prefix + name
            if after.startswith(f"{path}.") or until.startswith(f"{path}."):
                open_up(child, f"{path}.")
            else:
                chain.append((path, child))

    open_up(network, "")
    names = [name for name, _ in chain]
    if after not in names or until not in names:
        return OrderedDict()
    between = chain[names.index(after) + 1 : names.index(until) + 1]
    return OrderedDict((name.replace(".", "_"), module) for name, module in between)


def _noise(config: InputConfig) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, *config.input_size, generator=generator)


@torch.no_grad()
def _continues(module: nn.Module, start: Tensor, expected: Tensor) -> bool:
    """Return whether the chain takes one map of the network to the other."""
    try:
        result = module(start.clone())
    except _REFUSALS:
        return False
    return result.shape == expected.shape and torch.allclose(
        result, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
    )
