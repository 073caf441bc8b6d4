"""What a picture of a clip shows, whether it is a strip or a film."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from features_store.views import Rectangle
from pipelines.explain.maps import DrawnMap
from pipelines.explain.scale import TIMES


class Picture(NamedTuple):
    """A frame (H, W, 3) uint8, and what the backbone saw of it: x, y, width, height in pixels."""

    pixels: np.ndarray
    crop: Rectangle


class Frames(Protocol):
    """The frames of a clip.

    Attributes:
        times: in seconds of the video, one a frame.
        shape: height and width of the video.
        is_cropped: whether the backbone saw a part of each picture.
    """

    times: Sequence[float]
    shape: tuple[int, int]
    is_cropped: bool

    def read(self, chosen: Sequence[int], *, shape: tuple[int, int]) -> Iterator[Picture]:
        """Yield the frames at these positions, scaled to a height and width."""
        ...


@dataclass(frozen=True)
class Drawing:
    """Frames of a clip, the maps to draw over and under them, and what is said of them.

    Attributes:
        title: what the head says, and whether that is right.
        subtitle: which head, video and clip.
    """

    title: str
    subtitle: str
    frames: Frames
    maps: Sequence[DrawnMap]

    @property
    def over_frames(self) -> list[DrawnMap]:
        """The maps with a value for each cell."""
        return [drawn for drawn in self.maps if drawn.is_over_frames]

    @property
    def under_frames(self) -> list[DrawnMap]:
        """The maps with values for each frame as a whole."""
        return [drawn for drawn in self.maps if not drawn.is_over_frames]

    def shown(self, count: int) -> list[int]:
        """Return which frames stand for all: evenly spaced, and that of the highest value."""
        positions = spread(len(self.frames.times), count)
        for drawn in self.maps[:1]:
            values = drawn.scaled.values
            peak = int(values.reshape(len(values), -1).max(1).argmax())
            nearest = min(range(len(positions)), key=lambda i: abs(positions[i] - peak))
            positions[nearest] = peak
        return positions

    @property
    def footnote(self) -> str:
        """How the colours are to be read."""
        said = ["Each map's colours have one scale for the whole clip."]
        if any(drawn.scaled.unit == TIMES for drawn in self.maps):
            said.append("At the average everywhere, nothing would be preferred.")
        if any(drawn.is_of_each_frame for drawn in self.over_frames):
            said.append("Frames share out the same each: colours compare places, not frames.")
        if self.over_frames and self.frames.is_cropped:
            said.append("The network was shown what lies within the outline.")
        return " ".join(said)


def fit_into(shape: tuple[int, int], *, width: int, height: int) -> tuple[int, int]:
    """Return the height and width, both even, of a picture that is scaled to fill a box.

    >>> fit_into((120, 160), width=640, height=480), fit_into((1080, 1920), width=640, height=480)
    ((480, 640), (360, 640))
    """
    scale = min(width / shape[1], height / shape[0])
    large, wide = (max(2, 2 * round(side * scale / 2)) for side in shape)
    return large, wide


def spread(number: int, count: int) -> list[int]:
    """Return at most `count` positions of so many, evenly spaced, the first and last among them.

    >>> spread(10, 4), spread(2, 4), spread(1, 4)
    ([0, 3, 6, 9], [0, 1], [0])
    """
    positions = np.unique(np.linspace(0, number - 1, min(count, number)).round())
    return [int(position) for position in positions]
