"""A strip: some frames of a clip in a row, each map in a row below, as one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipelines.explain.drawing import Drawing, Picture, fit_into
from pipelines.explain.maps import DrawnMap
from pipelines.explain.overlay import blend
from pipelines.explain.page import (
    BAR_SPACE,
    GAP,
    MARGIN,
    NAMES,
    SMALL,
    TITLE,
    Block,
    Page,
    Words,
    page_of,
    text_block,
    words_block,
)
from pipelines.explain.timeline import draw_timeline, timeline_height

NUM_FRAMES = 6
FRAME_SIDE = 300  # of the square that a frame is scaled to fill
LEAST_WIDTH = 900


def strip_page(drawing: Drawing) -> Page:
    """Return a page with a strip."""
    return _Strip(drawing).page()


class _Strip:
    def __init__(self, drawing: Drawing) -> None:
        self._drawing, self._frames = drawing, drawing.frames
        self._shown = drawing.shown(NUM_FRAMES)
        shape = fit_into(self._frames.shape, width=FRAME_SIDE, height=FRAME_SIDE)
        self._pictures: list[Picture] = list(self._frames.read(self._shown, shape=shape))
        self._height, self._step = shape[0], shape[1] + GAP
        has_names = any(drawn.has_names for drawn in drawing.under_frames)
        self._left = MARGIN + NAMES if has_names else MARGIN
        self._right = self._left + len(self._shown) * self._step
        self._width = max(LEAST_WIDTH, self._right + BAR_SPACE + MARGIN)

    def page(self) -> Page:
        drawing = self._drawing
        blocks = [
            text_block(drawing.title, self._width, size=TITLE, bold=True),
            text_block(drawing.subtitle, self._width),
            *self._rows(),
            text_block(drawing.footnote, self._width, size=SMALL),
        ]
        return page_of(blocks, self._width)

    def _rows(self) -> Iterator[Block]:
        times = [f"{self._frames.times[i]:.2f} s" for i in self._shown]
        lefts = [self._left + column * self._step for column in range(len(times))]
        above = [Words(*each) for each in zip(times, lefts, strict=True)]
        yield words_block(above, self._step, size=SMALL)
        yield self._row([picture.pixels for picture in self._pictures])
        for drawn in self._drawing.over_frames:
            yield self._caption(drawn)
            shades = drawn.scaled.shades
            blended = [
                blend(pixels, shades[i], crop)
                for (pixels, crop), i in zip(self._pictures, self._shown, strict=True)
            ]
            yield self._row(blended, drawn)
        for drawn in self._drawing.under_frames:
            yield self._caption(drawn)
            yield self._timeline(drawn)

    def _caption(self, drawn: DrawnMap) -> Block:
        return words_block([Words(drawn.caption, self._left)], self._width - self._left - MARGIN)

    def _row(self, pictures: Sequence[np.ndarray], drawn: DrawnMap | None = None) -> Block:
        def draw(page: Page, top: int) -> None:
            for column, picture in enumerate(pictures):
                page.paste(picture, self._left + column * self._step, top)
            if drawn is not None:
                page.draw_bar(drawn.scaled, self._right, top, self._height)

        return Block(self._height, draw)

    def _timeline(self, drawn: DrawnMap) -> Block:
        height = timeline_height(drawn)

        def draw(page: Page, top: int) -> None:
            axis = page.axes(self._left, top, self._right - self._left - GAP, height)
            draw_timeline(axis, drawn, self._frames.times, self._shown)
            page.draw_bar(drawn.scaled, self._right, top, height)

        return Block(height + 2 * SMALL, draw)
