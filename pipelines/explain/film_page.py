"""The page of a film: what stays is drawn once; pictures, the time and the place in strips anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.text import Text

from pipelines.explain.drawing import Drawing, fit_into, spread
from pipelines.explain.maps import DrawnMap
from pipelines.explain.overlay import blend
from pipelines.explain.page import (
    BAR_SPACE,
    GAP,
    MARGIN,
    NAMES,
    SMALL,
    TEXT,
    TITLE,
    Block,
    Page,
    Words,
    page_of,
    text_block,
    words_block,
)
from pipelines.explain.timeline import draw_timeline, timeline_height

FEW, FEW_BOX, MANY_BOX = 4, (640, 480), (420, 320)  # what a pane fills, by how many there are
LEAST_WIDTH = 900
NUM_TIMES = 6  # that are written below a strip
CURSOR = "cyan"


class FilmPage:
    """Draws a film frame by frame.

    Attributes:
        page: on which all is drawn.
    """

    def __init__(self, drawing: Drawing) -> None:
        self._frames = drawing.frames
        self._cursors: list[Line2D] = []
        self._time: Text | None = None
        # Left, top, and the shades that are laid over the frame, if any.
        self._panes: list[tuple[int, int, np.ndarray | None]] = []
        number = 1 + len(drawing.over_frames)
        box_width, box_height = FEW_BOX if number <= FEW else MANY_BOX
        self._shape = fit_into(drawing.frames.shape, width=box_width, height=box_height)
        self._per_row = min(number, 2 if number <= FEW else 3)
        self._step = self._shape[1] + BAR_SPACE
        width = max(LEAST_WIDTH, 2 * MARGIN + self._per_row * self._step)
        blocks = [
            text_block(drawing.title, width, size=TITLE, bold=True),
            text_block(drawing.subtitle, width),
            Block(round(1.4 * TEXT), self._write_time),
            *self._grid(drawing.over_frames),
        ]
        for drawn in drawing.under_frames:
            blocks += [text_block(drawn.caption, width), self._strip(drawn, width)]
        self.page = page_of([*blocks, text_block(drawing.footnote, width, size=SMALL)], width)

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the page (H, W, 3) uint8 at each frame; the sizes are even."""
        background, number = self.page.background(), len(self._frames.times)
        for i, (picture, crop) in enumerate(self._frames.read(range(number), shape=self._shape)):
            artists: list[Artist] = [*self._cursors]
            for cursor in self._cursors:
                cursor.set_xdata([i, i])
            if self._time is not None:
                said = f"{self._frames.times[i]:.2f} s of the video, frame {i + 1} of {number}"
                self._time.set_text(said)
                artists.append(self._time)
            page = self.page.pixels_over(background, artists)
            for left, top, shades in self._panes:
                shown = picture if shades is None else blend(picture, shades[i], crop)
                page[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
            yield page

    def _write_time(self, page: Page, top: int) -> None:
        self._time = page.write("", MARGIN, top)
        self._time.set_animated(True)

    def _grid(self, maps: Sequence[DrawnMap]) -> Iterator[Block]:
        """Yield rows of panes, a row of captions above each; the first pane is the video."""
        panes: list[DrawnMap | None] = [None, *maps]
        for first in range(0, len(panes), self._per_row):
            row = panes[first : first + self._per_row]
            captions = ["the video" if drawn is None else drawn.caption for drawn in row]
            lefts = [MARGIN + column * self._step for column in range(len(row))]
            yield words_block(
                [Words(*each) for each in zip(captions, lefts, strict=True)], self._step - GAP
            )
            yield self._row(row, lefts)

    def _row(self, row: Sequence[DrawnMap | None], lefts: Sequence[int]) -> Block:
        height, width = self._shape

        def draw(page: Page, top: int) -> None:
            for drawn, left in zip(row, lefts, strict=True):
                self._panes.append((left, top, None if drawn is None else drawn.scaled.shades))
                if drawn is not None:
                    page.draw_bar(drawn.scaled, left + width + GAP, top, height)

        return Block(height, draw)

    def _strip(self, drawn: DrawnMap, width: int) -> Block:
        height, times = timeline_height(drawn), self._frames.times

        def draw(page: Page, top: int) -> None:
            inner = width - 2 * MARGIN - NAMES - BAR_SPACE
            axis = page.axes(MARGIN + NAMES, top, inner, height)
            draw_timeline(axis, drawn, times, spread(len(times), NUM_TIMES))
            self._cursors.append(axis.axvline(0, color=CURSOR, linewidth=2, animated=True))
            page.draw_bar(drawn.scaled, MARGIN + NAMES + inner + GAP, top, height)

        return Block(height + 2 * SMALL, draw)
