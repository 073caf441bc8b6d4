"""A strip under the frames: what a head says of each frame as a whole, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from pipelines.explain.maps import DrawnMap
from pipelines.explain.overlay import COLOURS
from pipelines.explain.page import SMALL

ROW_HEIGHT, LEAST_HEIGHT, MAX_HEIGHT = 26, 44, 180
MAX_NAMED = 6  # rows that have a name each


def timeline_height(drawn: DrawnMap) -> int:
    """Return how high a strip is drawn, in pixels."""
    height = ROW_HEIGHT * int(drawn.scaled.values.shape[1])
    return min(max(height, LEAST_HEIGHT), MAX_HEIGHT)


def draw_timeline(
    axis: Axes, drawn: DrawnMap, times: Sequence[float], shown: Sequence[int]
) -> None:
    """Draw (T, rows) with a column a frame; the times of the shown ones stand below."""
    values = drawn.scaled.values
    axis.imshow(
        values.T, aspect="auto", interpolation="nearest", cmap=COLOURS,
        vmin=drawn.scaled.low, vmax=drawn.scaled.high,
    )  # fmt: skip
    axis.set_xticks(list(shown), [f"{times[i]:.2f} s" for i in shown])
    number = values.shape[1]
    if not drawn.has_names:
        axis.set_yticks([])
    elif number <= MAX_NAMED:
        axis.set_yticks(range(number), [f"{drawn.rows} {i + 1}" for i in range(number)])
    else:
        axis.set_yticks([0, number - 1], [f"{drawn.rows} 1", f"{drawn.rows} {number}"])
    axis.tick_params(labelsize=SMALL, length=3)
