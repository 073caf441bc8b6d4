"""Where the pixels of a frame land in the backbone's input: rotation, scaling, crop or padding.

Arithmetic alone. ``crop`` is torchvision's `Resize` (shorter side) and `CenterCrop`, to the pixel.
Pixels that are not square are made so: a frame is scaled as it is meant to be shown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from features_store.errors import UsageError
from features_store.spec import Preprocessing
from features_store.views import CENTER, CORNERS


class Orientation(NamedTuple):
    """How a decoded frame is turned for display: mirrored left to right first, then turned.

    Attributes:
        quarter_turns: 0 to 3, counter-clockwise.
        is_mirrored: whether left and right are exchanged.
    """

    quarter_turns: int = 0
    is_mirrored: bool = False


@dataclass(frozen=True)
class Placement:
    """How one frame becomes the backbone's input.

    Attributes:
        scaled_size: width and height to which the frame is scaled *as decoded*, before turning.
        offset: x and y of the centred input's top left corner in the scaled picture as displayed;
            negative where black is padded.
        input_size: height and width of the result.
        orientation: of the display.
        crop_rectangle: x, y, width and height of the centred input, in displayed source pixels;
            larger than the frame when padded.
    """

    scaled_size: tuple[int, int]
    offset: tuple[int, int]
    input_size: tuple[int, int]
    orientation: Orientation
    crop_rectangle: tuple[float, float, float, float]


def check_preprocessing(preprocessing: Preprocessing) -> None:
    """Raise `UsageError` for sizes with which no frame could be placed."""
    if min(preprocessing.input_size) < 1:
        raise UsageError(f"input size must be positive, got {preprocessing.input_size}")
    if preprocessing.fit == "crop" and preprocessing.resize_size < max(preprocessing.input_size):
        raise UsageError(
            f"resize size {preprocessing.resize_size} is below the input size "
            f"{preprocessing.input_size}, so a crop would leave the picture; "
            f"use at least {max(preprocessing.input_size)}, or `fit` stretch or pad"
        )


def read_orientation(display_matrix: Sequence[int]) -> Orientation:
    """Return the nearest orientation to FFmpeg's display matrix of nine fixed-point numbers.

    >>> read_orientation([0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30])  # as a phone writes it
    Orientation(quarter_turns=1, is_mirrored=False)
    """
    # The matrix maps (x, y) to (a x + c y, b x + d y) with y pointing down.
    a, b, _, c, d = (int(number) for number in display_matrix[:5])
    is_mirrored = a * d - b * c < 0
    if is_mirrored:  # take the mirror off; what is left is a rotation
        a, b = -a, -b
    return Orientation(round(math.atan2(-b, a) / (math.pi / 2)) % 4, is_mirrored)


def place_frame(
    width: int,
    height: int,
    *,
    preprocessing: Preprocessing,
    orientation: Orientation = Orientation(),  # noqa: B008 (immutable)
    pixel_aspect: Fraction = Fraction(1),
) -> Placement:
    """Return the placement of a frame whose *displayed* size is `width` × `height`.

    Args:
        pixel_aspect: width of a displayed pixel by its height.
    """
    check_preprocessing(preprocessing)
    if width < 1 or height < 1:
        raise ValueError(f"frame size must be positive, got {width}x{height}")
    input_height, input_width = preprocessing.input_size
    scaled_width, scaled_height = _scaled_size(width * pixel_aspect, height, preprocessing)
    left = _centre_offset(scaled_width, input_width)
    top = _centre_offset(scaled_height, input_height)
    x_scale, y_scale = width / scaled_width, height / scaled_height
    is_turned = orientation.quarter_turns % 2 == 1
    return Placement(
        scaled_size=(scaled_height, scaled_width) if is_turned else (scaled_width, scaled_height),
        offset=(left, top),
        input_size=preprocessing.input_size,
        orientation=orientation,
        crop_rectangle=(
            left * x_scale,
            top * y_scale,
            input_width * x_scale,
            input_height * y_scale,
        ),
    )


def _scaled_size(width: Fraction, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the displayed size after scaling, width and height, of a frame of square pixels."""
    input_height, input_width = preprocessing.input_size
    if preprocessing.fit == "stretch":
        return input_width, input_height
    if preprocessing.fit == "pad":
        scale = min(input_width / width, Fraction(input_height, height))
        return max(1, round(width * scale)), max(1, round(height * scale))
    # The longer side is cut to a whole number, as torchvision's `Resize` does.
    short = preprocessing.resize_size
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _centre_offset(scaled: int, wanted: int) -> int:
    """Return where a centred window of `wanted` pixels begins, rounded as torchvision rounds."""
    return round((scaled - wanted) / 2)


def arrange(
    scaled: UInt8[np.ndarray, "scaled_h scaled_w"], *, placement: Placement, crop: str = CENTER
) -> UInt8[np.ndarray, "h w"]:
    """Turn a plane of a scaled frame for display, then crop or pad it; a view where not padded.

    Args:
        crop: the centre, or one of `views.CORNERS`.
    """
    shown = scaled[:, ::-1] if placement.orientation.is_mirrored else scaled
    if placement.orientation.quarter_turns:
        shown = np.rot90(shown, placement.orientation.quarter_turns)
    left, top = placement.offset
    height, width = placement.input_size
    if crop in CORNERS:
        left = shown.shape[1] - width if crop.endswith("right") else 0
        top = shown.shape[0] - height if crop.startswith("bottom") else 0
    if shown.shape[0] >= height and shown.shape[1] >= width:
        return shown[top : top + height, left : left + width]
    canvas = np.zeros((height, width), dtype=np.uint8)
    canvas[-top : -top + shown.shape[0], -left : -left + shown.shape[1]] = shown
    return canvas
