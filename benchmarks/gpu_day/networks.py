"""The networks of the GPU day: real weights where they came along, else seeded ones for timing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.gpu_day.step import Setting
from extract.backbones.registry import Backbone, load_backbone, load_network
from extract.compute.computer import CubeComputer
from extract.compute.preprocess import preprocessing_for
from features_store.spec import Precision

NAMES = ("caffe:googlenet", "torchvision:googlenet", "timm:resnet50", "timm:vit_small_patch16_224")


def names(setting: Setting) -> tuple[str, ...]:
    return ("tiny:conv",) if setting.is_small else NAMES


def load(name: str, setting: Setting) -> tuple[Backbone, str]:
    """Return a network, and whether its weights are real."""
    if name == "caffe:googlenet" and setting.weights is not None:
        return load_backbone(name, weights=setting.weights), "real"
    torch.manual_seed(0)
    backbone = Backbone(name, load_network(name, trained=False))
    fit_norms(backbone)
    return backbone, "seeded"


@torch.no_grad()
def fit_norms(backbone: Backbone) -> None:
    """Give seeded batch norms the statistics of noise; as they come, maps vanish or explode."""
    backbone.train()
    backbone.network(torch.randn(8, 3, *backbone.config.input_size))
    backbone.eval()


def computer_of(
    backbone: Backbone,
    device: torch.device,
    *,
    batch_size: int,
    precision: Precision = "fp32",
) -> CubeComputer:
    preprocessing = preprocessing_for(backbone.config, fit="crop")
    return CubeComputer(
        backbone, preprocessing, device=device, batch_size=batch_size, precision=precision
    )


def least_seconds(
    network: nn.Module, pictures: Tensor, *, flop_rate: float, byte_rate: float
) -> float:
    """Return the roofline of a batch: each layer as fast as its operations or its bytes allow.

    Convolutions and matrix products count, each input, output and weight moved once; what lies
    between them is taken to be fused into them, at no cost. Pooling counts by its bytes.
    """
    seconds = 0.0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal seconds
        moved = (inputs[0].numel() + output.numel()) * output.element_size()
        operations = 0.0
        if isinstance(layer, nn.Conv2d | nn.Linear):
            moved += layer.weight.numel() * output.element_size()
            per_value = layer.weight[0].numel()
            operations = 2.0 * output.numel() * per_value
        seconds += max(operations / flop_rate, moved / byte_rate)

    kinds = (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d)
    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, kinds)]
    with torch.inference_mode():
        network(pictures)
    for hook in hooks:
        hook.remove()
    return seconds
