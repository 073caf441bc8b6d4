"""From decoded uint8 frames to what a backbone sees, and to the thumbnails of frame differences."""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from extract.backbones.registry import InputConfig
from features_store.format.layout import DIFF_GRID
from features_store.spec import Fit, Preprocessing


def preprocessing_for(config: InputConfig, *, fit: Fit) -> Preprocessing:
    """Return the preprocessing that a network's weights ask for, with frames fitted as told."""
    return Preprocessing(
        input_size=config.input_size,
        resize_size=config.resize_size,
        fit=fit,
        interpolation=config.interpolation,
        mean=config.mean,
        std=config.std,
        pixel_scale=config.pixel_scale,
        channel_order=config.channel_order,
    )


class Normalise(nn.Module):
    """(pixels / pixel_scale − mean) / std, in the network's channel order."""

    scale: Tensor
    shift: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        mean, std = (
            torch.tensor(v, dtype=torch.float64) for v in (preprocessing.mean, preprocessing.std)
        )
        # One multiply and one add a pixel; folded in float64, so that nothing is lost by folding.
        self.register_buffer("scale", (1 / (preprocessing.pixel_scale * std)).float())
        self.register_buffer("shift", (-mean / std).float())
        self._flip = preprocessing.channel_order == "bgr"

    def forward(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
        """Return float32 pictures; the memory stays channels last."""
        ordered = pixels.flip(-1) if self._flip else pixels
        return torch.addcmul(self.shift, ordered.float(), self.scale).permute(0, 3, 1, 2)


def thumbnails(pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b g g 3"]:
    """Return frames in 0…1, RGB, area-averaged to 14 × 14."""
    pictures = rearrange(pixels.float(), "b h w c -> b c h w")
    averaged = F.adaptive_avg_pool2d(pictures, DIFF_GRID) / 255
    return rearrange(averaged, "b c h w -> b h w c")


def frame_diffs(
    current: Float[np.ndarray, "t g g 3"], previous: Float[np.ndarray, "g g 3"] | None
) -> Float[np.ndarray, "t g g 3"]:
    """Return each thumbnail minus the one before; `previous` is the last of the block before.

    Averaging and subtracting commute, so this is the averaged difference of the frames. The first
    difference of a video is zero.

    >>> ramp = np.arange(3.0).reshape(3, 1, 1, 1).repeat(3, -1)
    >>> frame_diffs(ramp, None)[:, 0, 0, 0].tolist()
    [0.0, 1.0, 1.0]
    """
    before = current[:1] if previous is None else previous[None]
    return np.diff(current, axis=0, prepend=before)
