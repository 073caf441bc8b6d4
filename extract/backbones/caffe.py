"""``caffe:googlenet``: the plain GoogLeNet of 2014 with response normalisation (BVLC model zoo).

The network of Sharma et al. Input is BGR 0…255 minus the mean; weights come from a file with the
tensors ``conv1`` … ``classifier``.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from extract.backbones.registry import (
    InputConfig,
    LoadedNetwork,
    NamedMaps,
    YieldsMaps,
    register_source,
)
from extract.backbones.weights import load_into, read_state_dict, state_sha256
from features_store.errors import UsageError

# Per block: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection (Szegedy et al. 2015, table 1).
INCEPTIONS = {
    "inception_3a": (192, (64, 96, 128, 16, 32, 32)),
    "inception_3b": (256, (128, 128, 192, 32, 96, 64)),
    "inception_4a": (480, (192, 96, 208, 16, 48, 64)),
    "inception_4b": (512, (160, 112, 224, 24, 64, 64)),
    "inception_4c": (512, (128, 128, 256, 24, 64, 64)),
    "inception_4d": (512, (112, 144, 288, 32, 64, 64)),
    "inception_4e": (528, (256, 160, 320, 32, 128, 128)),
    "inception_5a": (832, (256, 160, 320, 32, 128, 128)),
    "inception_5b": (832, (384, 192, 384, 48, 128, 128)),
}
# Pooled before the next block.
POOLS = {"inception_3b": "pool3", "inception_4e": "pool4"}


class LocalResponseNorm(nn.Module):
    """x / (1 + α/n · Σ of x² over n neighbouring channels)^β, β = 3/4 (Krizhevsky et al. 2012).

    torch's own goes through a 3-D average pool and `pow`, is half the network's time and has no
    bf16 on the CPU. Here windows are a view of the squares with channels last, as they lie in
    memory, and the power is two roots. Squares are summed in float32 whatever the input is.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4) -> None:
        super().__init__()
        self.size, self.alpha = size, alpha

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        """Return the normalised map."""
        half = self.size // 2
        squares = rearrange(x.float().square(), "b d h w -> b h w d")
        windows = F.pad(squares, (half, half)).unfold(-1, self.size, 1)
        total = rearrange(windows.sum(-1), "b h w d -> b d h w")
        root = total.mul_(self.alpha / self.size).add_(1).rsqrt_()
        return x * root.mul_(root.sqrt()).to(x.dtype)


class Inception(nn.Module):
    """Four branches side by side; max-pool 3/1 before the last."""

    def __init__(self, dim: int, sizes: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = sizes
        self.conv1x1 = nn.Conv2d(dim, one, 1)
        self.conv3x3_reduce = nn.Conv2d(dim, reduce3, 1)
        self.conv3x3 = nn.Conv2d(reduce3, three, 3, padding=1)
        self.conv5x5_reduce = nn.Conv2d(dim, reduce5, 1)
        self.conv5x5 = nn.Conv2d(reduce5, five, 5, padding=2)
        self.pool_proj = nn.Conv2d(dim, pool, 1)

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b e h w"]:
        """Return the branches, concatenated."""
        three = self.conv3x3(F.relu(self.conv3x3_reduce(x), inplace=True))
        five = self.conv5x5(F.relu(self.conv5x5_reduce(x), inplace=True))
        pool = self.pool_proj(F.max_pool2d(x, 3, stride=1, padding=1))
        return F.relu(torch.cat([self.conv1x1(x), three, five, pool], 1), inplace=True)


class CaffeGoogLeNet(YieldsMaps):
    """The deploy network without its dropout: logits of 1,000 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.conv2_reduce = nn.Conv2d(64, 64, 1)
        self.conv2 = nn.Conv2d(64, 192, 3, padding=1)
        self.norm, self.pool = LocalResponseNorm(), _pool()
        for name, (dim, sizes) in INCEPTIONS.items():
            self.add_module(name, Inception(dim, sizes))
            if name in POOLS:
                self.add_module(POOLS[name], _pool())
        self.classifier = nn.Linear(1024, 1000)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1000"]:
        """Return logits."""
        *_, (_, top) = self.feature_maps(x)
        logits: Tensor = self.classifier(top.mean((2, 3)))
        return logits

    def feature_maps(self, x: Float[Tensor, "b 3 h w"]) -> Iterator[tuple[str, Tensor]]:
        """Yield the outputs of the inception blocks, by name."""
        x = self.norm(self.pool(F.relu(self.conv1(x), inplace=True)))
        x = F.relu(self.conv2(F.relu(self.conv2_reduce(x), inplace=True)), inplace=True)
        x = self.pool(self.norm(x))
        for name in INCEPTIONS:
            x = self.get_submodule(name)(x)
            yield name, x
            if name in POOLS:
                x = self.get_submodule(POOLS[name])(x)


def _pool() -> nn.MaxPool2d:
    # Caffe rounds the size of a pooled map up, where torch rounds down.
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _networks() -> dict[str, str]:
    return {"googlenet": "GoogLeNet of 2014 with response normalisation; needs `weights` FILE"}


@register_source("caffe", _networks)
def load_caffe(name: str, weights: Path | None, trained: bool) -> LoadedNetwork:
    """Build the network; it has no download, so `weights` must be given if it is to be trained."""
    if name != "googlenet":
        raise UsageError(f"no backbone 'caffe:{name}'; there is caffe:googlenet")
    if weights is None and trained:
        raise UsageError("caffe:googlenet has no download of its own; give `weights` FILE")
    network = CaffeGoogLeNet()
    if weights is not None:
        load_into(network, read_state_dict(weights), origin=str(weights))
    config = InputConfig(
        input_size=(224, 224),
        resize_size=256,
        interpolation="bilinear",
        mean=(104.0, 117.0, 123.0),
        std=(1.0, 1.0, 1.0),
        pixel_scale=1.0,
        channel_order="bgr",
    )
    cut_at = partial(NamedMaps, network, known=list(INCEPTIONS), backbone="caffe:googlenet")
    return LoadedNetwork(network, config, state_sha256(network), cut_at)
