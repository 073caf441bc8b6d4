"""Which colour matrix and range a frame is converted with; both are recorded by these names.

The frame's own where it has them. Otherwise BT.601 below 720 lines and BT.709 from 720 on, and
``mpeg`` (16…235). Grey, palette and RGB pictures have no matrix, and FFmpeg takes them as ``jpeg``
(0…255).
"""

from functools import cache
from typing import NamedTuple

from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Colorspace

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
