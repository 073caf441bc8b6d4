"""Frozen networks by name: ``source:name``, such as ``torchvision:googlenet`` or ``timm:resnet50``.

A source is one file and one import line here; a network of timm or torchvision needs no code.
"""

from extract.backbones import caffe as caffe
from extract.backbones import timm_source as timm_source
from extract.backbones import tiny as tiny
from extract.backbones import torchvision_source as torchvision_source
from extract.backbones.registry import Backbone as Backbone
from extract.backbones.registry import list_sources as list_sources
from extract.backbones.registry import load_backbone as load_backbone
