"""Frozen networks by name: ``source:name``, such as ``torchvision:googlenet`` or ``timm:resnet50``.

A source is one file and one line in `sources`; a network of timm or torchvision needs no code. What
is named here is imported when it is first used: names are checked without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from extract.backbones.sources import list_sources as list_sources

if TYPE_CHECKING:
    from extract.backbones.registry import Backbone as Backbone
    from extract.backbones.registry import load_backbone as load_backbone

_NAMES = ("Backbone", "load_backbone")


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module("extract.backbones.registry"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
