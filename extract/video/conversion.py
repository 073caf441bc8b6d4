"""Decoded frames become RGB pictures of the backbone's input size.

The only place that calls swscale. The orientation, the placement and the recorded colours are
decided by the first frame.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np
from av import VideoFrame
from av.sidedata.sidedata import SideData
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from jaxtyping import UInt8

from extract.video.container import MAX_FRAME_SIDE
from extract.video.geometry import Orientation, Placement, arrange, place_frame, read_orientation
from features_store.errors import DecodeError
from features_store.spec import Preprocessing
from features_store.views import CENTER

# FFmpeg's AVColorSpace (what a frame says) -> swscale's matrix (what converts it).
_MATRICES = {
    1: ("bt709", Colorspace.ITU709),
    4: ("fcc", Colorspace.FCC),
    5: ("bt601", Colorspace.ITU601),
    6: ("bt601", Colorspace.ITU601),
    7: ("smpte240m", Colorspace.SMPTE240M),
    9: ("bt2020", Colorspace.BT2020),
    10: ("bt2020", Colorspace.BT2020),
}


class Colours(NamedTuple):
    """Names for the record, and the same two as swscale wants them."""

    matrix_name: str
    range_name: str
    matrix: int
    range: int


@cache
def choose_colours(format_name: str, *, colorspace: int, color_range: int, height: int) -> Colours:
    """Return the colours to convert with; `height` is the frame's as decoded.

    The frame's own where it has them. Otherwise BT.601 below 720 lines and BT.709 from 720 on, and
    ``mpeg`` (16…235). Grey, palette and RGB pictures have no matrix, and FFmpeg takes them as
    ``jpeg`` (0…255).

    >>> choose_colours("yuv420p", colorspace=2, color_range=0, height=720)[:2]
    ('bt709', 'mpeg')
    """
    pixel_format = VideoFormat(format_name)
    if pixel_format.is_rgb or len(pixel_format.components) < 3:
        name = "rgb" if pixel_format.is_rgb else "grey"
        return Colours(name, "jpeg", int(Colorspace.ITU601), int(ColorRange.JPEG))
    by_size = _MATRICES[1] if height >= 720 else _MATRICES[6]
    name, matrix = _MATRICES.get(colorspace, by_size)
    if color_range == ColorRange.JPEG or format_name.startswith("yuvj"):
        return Colours(name, "jpeg", int(matrix), int(ColorRange.JPEG))
    return Colours(name, "mpeg", int(matrix), int(ColorRange.MPEG))


# Exact rounding costs nothing measurable and gives the same bytes on every CPU. Planes are asked
# for, not "rgb24": that is 1 to 4 levels too dark, since it shares chroma between two pixels and
# cuts off what should be rounded, and takes longer (benchmarks/pixel_error.py).
_EXACT = Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT
_PLANES, _RGB = "gbrp", (2, 0, 1)
_INTERPOLATIONS = {
    "bilinear": int(Interpolation.BILINEAR | _EXACT),
    "bicubic": int(Interpolation.BICUBIC | _EXACT),
}


class FrameConverter:
    """Scale, convert and place frames of one size, with one re-used swscale context.

    A context for every frame, as `VideoFrame.to_ndarray` makes it, costs two to three times as
    much at 320×240.

    Attributes:
        pixel_aspect: width of a pixel of a decoded frame by its height; set before the first one.
    """

    def __init__(self, preprocessing: Preprocessing, *, crops: Sequence[str] = (CENTER,)) -> None:
        self._preprocessing = preprocessing
        self._crops = crops
        self.pixel_aspect = Fraction(1)
        self._reformatter = VideoReformatter()
        self._source_size = (0, 0)
        self.displayed_size = (0, 0)
        self.placement: Placement
        self.colours: Colours

    @property
    def has_plan(self) -> bool:
        """Whether a first frame has decided the placement."""
        return self._source_size != (0, 0)

    def convert(self, frame: VideoFrame) -> list[UInt8[np.ndarray, "h w 3"]]:
        """Return each crop's pixels as the backbone sees them, RGB."""
        colours = choose_colours(
            frame.format.name,
            colorspace=int(frame.colorspace),
            color_range=int(frame.color_range),
            height=frame.height,
        )
        if not self.has_plan:
            self.colours = colours
            self._plan(frame)
        if (frame.width, frame.height) != self._source_size:
            old, new = ("{}x{}".format(*size) for size in (self._source_size, _size(frame)))
            message = f"the frame size changes from {old} to {new}; split the video there"
            raise DecodeError(message, reason="size changed")
        scaled = self._reformatter.reformat(
            frame,
            *self.placement.scaled_size,
            format=_PLANES,
            src_colorspace=colours.matrix,
            src_color_range=colours.range,
            dst_color_range=int(ColorRange.JPEG),
            interpolation=_INTERPOLATIONS[self._preprocessing.interpolation],
            threads=1,
        )
        planes = [_plane_view(scaled, number) for number in _RGB]
        return [
            np.stack([arrange(p, placement=self.placement, crop=crop) for p in planes], axis=-1)
            for crop in self._crops
        ]

    def _plan(self, frame: VideoFrame) -> None:
        orientation = _orientation(frame)
        is_turned = orientation.quarter_turns % 2 == 1
        self.displayed_size = (
            (frame.height, frame.width) if is_turned else (frame.width, frame.height)
        )
        self.placement = place_frame(
            *self.displayed_size, preprocessing=self._preprocessing, orientation=orientation,
            pixel_aspect=1 / self.pixel_aspect if is_turned else self.pixel_aspect,
        )  # fmt: skip
        if max(*_size(frame), *self.placement.scaled_size) > MAX_FRAME_SIDE:
            sizes = f"{_size(frame)} scaled to {self.placement.scaled_size}"
            message = f"frames of {sizes} exceed {MAX_FRAME_SIDE} pixels a side"
            raise DecodeError(message, reason="size limit")
        self._source_size = _size(frame)


def _size(frame: VideoFrame) -> tuple[int, int]:
    return frame.width, frame.height


def _orientation(frame: VideoFrame) -> Orientation:
    # `VideoFrame.rotation` calls a mirrored picture one upside down, hence the matrix itself.
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know all kinds of side data, and then gives none
        if frame.rotation:
            message = "frames are turned or mirrored, and PyAV cannot read how; convert the video"
            raise DecodeError(message, reason="corrupt") from None
        return Orientation()
    if not isinstance(matrix, SideData):
        return Orientation()
    return read_orientation(np.frombuffer(memoryview(matrix), dtype=np.int32).tolist())


def _plane_view(frame: VideoFrame, number: int) -> UInt8[np.ndarray, "h w"]:
    """Return a plane's own memory as an array, without the padding at the end of lines."""
    plane = frame.planes[number]
    return np.ndarray(
        (frame.height, frame.width),
        np.uint8,
        buffer=memoryview(plane),
        strides=(plane.line_size, 1),
    )
