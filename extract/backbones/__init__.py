"""Frozen networks by name: ``source:name``, such as ``torchvision:googlenet`` or ``timm:resnet50``.

A source is one file and one line in `registry`; a network of timm or torchvision needs no code.
"""

from extract.backbones.registry import Backbone as Backbone
from extract.backbones.registry import list_sources as list_sources
from extract.backbones.registry import load_backbone as load_backbone
