"""Views: which part of the picture cubes are of, and whether it is mirrored. Pure.

`center` is the centre crop (all of the picture where it is stretched or padded), `flip` that crop
with left and right exchanged, the others are crops of the same size in the corners of the frame.
"""

from collections.abc import Sequence
from typing import Literal, get_args

from features_store.errors import UsageError, nearest_name

View = Literal["center", "flip", "top_left", "top_right", "bottom_left", "bottom_right"]
VIEWS: tuple[str, ...] = get_args(View)
CENTER, FLIP, *CORNERS = VIEWS
Rectangle = tuple[float, float, float, float]


def choose_views(names: Sequence[str], *, fit: str) -> tuple[str, ...]:
    """Return the views in their order; `center` when none is named.

    >>> choose_views(["flip", "center"], fit="crop")
    ('center', 'flip')
    """
    for name in names:
        if name not in VIEWS:
            raise UsageError(f"no view {name!r}; {nearest_name(name, list(VIEWS))}")
        if list(names).count(name) > 1:
            raise UsageError(f"view {name!r} is asked for twice")
        if name in CORNERS and fit != "crop":
            raise UsageError(
                f"view {name!r} is a corner that the centre crop leaves out; with `fit` {fit} "
                "nothing is left out: take `fit` crop, or `view` center and flip alone"
            )
    return tuple(view for view in VIEWS if view in names) or (CENTER,)


def crop_of(view: str) -> str:
    """Return the view that shows the same pixels unmirrored."""
    return CENTER if view == FLIP else view


def rectangle_of(view: str, center: Rectangle, *, width: int, height: int) -> Rectangle:
    """Return x, y, width, height of a view in a frame, from the rectangle of its centre crop.

    That of `flip` is in the mirrored frame.

    >>> rectangle_of("bottom_right", (2.0, 1.0, 4.0, 6.0), width=8, height=8)
    (4.0, 2.0, 4.0, 6.0)
    """
    left, top, crop_width, crop_height = center
    if view == FLIP:
        left = width - left - crop_width
    if view in CORNERS:
        left = width - crop_width if view.endswith("right") else 0.0
        top = height - crop_height if view.startswith("bottom") else 0.0
    return left, top, crop_width, crop_height
