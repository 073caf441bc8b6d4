"""Frozen networks by name: ``source:name``, such as ``torchvision:googlenet`` or ``timm:resnet50``.

A source is one file and one line in `sources`; a network of timm or torchvision needs no code. What
is named here is imported when it is first used: names are checked without torch.
"""

from typing import TYPE_CHECKING

from extract.backbones.sources import list_sources as list_sources
from features_store.lazy import lazy_names

if TYPE_CHECKING:
    from extract.backbones.registry import Backbone as Backbone
    from extract.backbones.registry import load_backbone as load_backbone

__getattr__, __dir__ = lazy_names(
    __name__, {"registry": ("Backbone", "load_backbone"), "sources": ("list_sources",)}
)
