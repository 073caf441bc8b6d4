"""What the maps of heads say, in words: `cubereel explain` writes them beside what it draws."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

MapUnit = Literal["share", "level", "number"]


@dataclass(frozen=True)
class MapMeaning:
    """What a map says, for somebody who has not read the paper.

    Attributes:
        words: as in "where it looks in each frame".
        unit: a ``share`` of what is divided among cells or frames, of which proportions alone
            count; a ``level`` between 0 and 1; or a ``number`` of any size.
        rows: what there are several of in a frame, as in "layer", if there are several.
        codes: names of the values 0, 1, 2 and so on, where there are no others.
    """

    words: str
    unit: MapUnit = "number"
    rows: str = "row"
    codes: tuple[str, ...] = ()


MapMeanings = Mapping[str, MapMeaning]

LOOKS = MapMeaning("where it looks in each frame", "share")
LAYERS_LOOK = MapMeaning("where each layer looks", "share", rows="layer")
FRAMES_COUNT = MapMeaning("how much each frame counts", "share")
M2A_MAPS = {
    "activation": MapMeaning("how strongly the motion block answers at each place", "share"),
    "frame_attention": MapMeaning(
        "what each frame (across) takes from each (down)", "share", rows="frame"
    ),
}
