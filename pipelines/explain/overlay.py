"""Laying a map over a frame: the frame stays visible everywhere, and colours say how much.

The frame is in grey under the colours, so that every hue is the map's.
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from features_store.views import Rectangle

COLOURS = "inferno"
# How much of a frame its colours cover: what counts for little stays clear. With these two the bar
# gets lighter from its lower end to its upper one.
LEAST_COVER, MOST_COVER = 0.25, 0.5
MIDDLE_GREY, WHITE = 128, 255
OUTLINE = 2  # pixels of half the brightness
PALE = 0.6  # share of white in what the backbone was not shown


def blend(picture: np.ndarray, shades: np.ndarray, crop: Rectangle) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 with shades (K, K), 0 to 1, laid over what they cover.

    What the backbone was not shown is pale, and beyond an outline.

    Args:
        crop: what they cover, as x, y, width, height in pixels.
    """
    height, width = picture.shape[:2]
    x, y, crop_width, crop_height = crop
    left, top = max(0, round(x)), max(0, round(y))
    right, bottom = min(width, round(x + crop_width)), min(height, round(y + crop_height))
    in_grey = grey(picture)
    mixed = np.rint((1 - PALE) * in_grey + PALE * WHITE).astype(np.uint8)
    if right > left and bottom > top:
        large = enlarge(shades, height=bottom - top, width=right - left)
        mixed[top:bottom, left:right] = mix(in_grey[top:bottom, left:right], large)
        if (left, top, right, bottom) != (0, 0, width, height):
            _outline(mixed[top:bottom, left:right])
    return mixed


def _outline(picture: np.ndarray) -> None:
    """Draw a thin dark line along the inner edges of a picture."""
    inner = slice(OUTLINE, -OUTLINE)
    for edge in (
        np.s_[:OUTLINE],
        np.s_[-OUTLINE:],
        np.s_[inner, :OUTLINE],
        np.s_[inner, -OUTLINE:],
    ):
        picture[edge] //= 2


def enlarge(shades: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Return shades (K, K) as a picture (H, W) without values that no cell has."""
    cells = torch.from_numpy(np.ascontiguousarray(shades, np.float32))[None, None]
    large = F.interpolate(cells, size=(height, width), mode="bilinear", align_corners=False)
    pixels: np.ndarray = large[0, 0].numpy()
    return pixels


def grey(picture: np.ndarray) -> np.ndarray:
    """Return the luma of a picture (H, W, 3) as a picture of the same shape."""
    luma = picture @ np.array([0.299, 0.587, 0.114])
    return np.repeat(luma[..., None], 3, axis=-1)


def mix(picture: np.ndarray, shades: np.ndarray) -> np.ndarray:
    """Return a picture (H, W, 3) and the colours of shades (H, W), uint8."""
    colours = mpl.colormaps[COLOURS](shades)[..., :3] * 255
    cover = LEAST_COVER + (MOST_COVER - LEAST_COVER) * shades[..., None]
    mixed: np.ndarray = np.rint((1 - cover) * picture + cover * colours).astype(np.uint8)
    return mixed


def colour_bar(height: int, width: int, *, over_frames: bool) -> np.ndarray:
    """Return the colours from high to low (H, W, 3): as over a frame of middle grey, or alone."""
    shades = np.repeat(np.linspace(1, 0, height)[:, None], width, axis=1)
    if over_frames:
        return mix(np.full((height, width, 3), MIDDLE_GREY), shades)
    alone: np.ndarray = np.rint(mpl.colormaps[COLOURS](shades)[..., :3] * 255).astype(np.uint8)
    return alone
