"""A page to draw on, measured in pixels from its top left corner, and blocks one below another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipelines.explain.overlay import colour_bar
from pipelines.explain.scale import Scaled
from pipelines.lettering import letter, wrap

MARGIN, GAP = 20, 8
NAMES = 70  # left of a strip, for the names of its rows
TITLE, TEXT, SMALL = 22, 17, 14  # heights of letters, in pixels
BAR_WIDTH, BAR_SPACE = 16, 96  # a colour bar, and with the words beside it
COLUMN = 0.62  # width of a letter by its height; few are wider
PIXELS_PER_INCH = 72  # matplotlib's points are pixels then


class Page:
    """A white page.

    Attributes:
        figure: matplotlib's, for what changes from frame to frame.
    """

    def __init__(self, width: int, height: int) -> None:
        size = (width / PIXELS_PER_INCH, height / PIXELS_PER_INCH)
        self.figure = Figure(figsize=size, dpi=PIXELS_PER_INCH, facecolor="white")
        self.width, self.height = width, height
        # Some of its methods have no types.
        self._canvas: Any = FigureCanvasAgg(self.figure)
        self._pasted: list[tuple[int, int, np.ndarray]] = []

    def write(
        self, text: str, left: float, top: float, *, size: int = TEXT, bold: bool = False
    ) -> Text:
        """Write a line whose upper left corner is there."""
        lettering = letter(text)
        return self.figure.text(
            left / self.width, 1 - top / self.height, lettering.text,
            family=list(lettering.families), fontsize=size, va="top",
            weight="bold" if bold else "normal", parse_math=False,
        )  # fmt: skip

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return axes that fill a rectangle."""
        bottom = self.height - top - height
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def paste(self, picture: np.ndarray, left: int, top: int) -> None:
        """Put a picture (H, W, 3) there."""
        self._pasted.append((left, top, picture))

    def draw_bar(self, scaled: Scaled, left: int, top: int, height: int) -> None:
        """Draw a colour bar with the words of its scale to its right."""
        over_frames = scaled.values.ndim == 3
        self.paste(colour_bar(height, BAR_WIDTH, over_frames=over_frames), left, top)
        free_from = -SMALL
        for value, words in sorted(scaled.ticks, reverse=True):
            share = (scaled.high - value) / (scaled.high - scaled.low)
            place = round(share * (height - SMALL))
            is_end = value == scaled.low
            if place < free_from + SMALL or (not is_end and place > height - 2 * SMALL):
                continue
            self.write(words, left + BAR_WIDTH + 6, top + place, size=SMALL)
            free_from = place

    def pixels(self) -> np.ndarray:
        """Return the page as it is now (H, W, 3), uint8."""
        self._canvas.draw()
        return self._with_pasted()

    def background(self) -> Any:
        """Return what was drawn, all but artists that are animated; see `pixels_over`."""
        self._canvas.draw()
        return self._canvas.copy_from_bbox(self.figure.bbox)

    def pixels_over(self, background: Any, artists: Sequence[mpl.artist.Artist]) -> np.ndarray:
        """Return a background with artists drawn over it (H, W, 3), uint8."""
        self._canvas.restore_region(background)
        for artist in artists:
            self.figure.draw_artist(artist)
        return self._with_pasted()

    def _with_pasted(self) -> np.ndarray:
        pixels = np.asarray(self._canvas.buffer_rgba())[..., :3].copy()
        for left, top, picture in self._pasted:
            pixels[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        return pixels


@dataclass(frozen=True)
class Block:
    """A part of a page that is as wide as the page: its height, and what draws it from a top."""

    height: int
    draw: Callable[[Page, int], None]


@dataclass(frozen=True)
class Words:
    """Text that begins at a place from the left."""

    text: str
    left: int = MARGIN


def text_block(text: str, width: int, *, size: int = TEXT, bold: bool = False) -> Block:
    """Return text in as many lines as a page of that width needs."""
    return words_block([Words(text)], width - 2 * MARGIN, size=size, bold=bold)


def words_block(
    texts: Sequence[Words], width: int, *, size: int = TEXT, bold: bool = False
) -> Block:
    """Return texts beside each other, each in as many lines of that width as it needs."""
    num_columns, step = int(width / (COLUMN * size)), round(1.4 * size)
    wrapped = [wrap(letter(words.text).text, num_columns=num_columns) for words in texts]

    def draw(page: Page, top: int) -> None:
        for words, lines in zip(texts, wrapped, strict=True):
            for i, line in enumerate(lines):
                written = page.write(line, words.left, top + i * step, size=size, bold=bold)
                too_wide = written.get_window_extent().width / width
                if too_wide > 1:  # as with capitals alone
                    written.set_fontsize(0.95 * size / too_wide)

    return Block(step * max(map(len, wrapped)), draw)


def page_of(blocks: Sequence[Block], width: int) -> Page:
    """Return a page with blocks one below the other; its sides are even, as films want it."""
    height = 2 * MARGIN + sum(block.height for block in blocks) + GAP * (len(blocks) - 1)
    page = Page(width + width % 2, height + height % 2)
    top = MARGIN
    for block in blocks:
        block.draw(page, top)
        top += block.height + GAP
    return page
