"""The maps that a head returned of a clip, each as what is drawn of it.

A map with a place for each cell is drawn over the frames, one of several looks in as many panes;
one with values for each frame is a strip under them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from features_store.errors import ContractError, UsageError
from pipelines.explain.scale import TIMES, Scaled, scaled
from train.heads import Head, head_class, list_heads
from train.heads.map_meanings import MapMeaning

MAX_PANES = 4  # of one map
UNLIKE = 0.01  # by this share sums of frames differ, where what is shared out is a whole clip's
NEARLY_ALL = 0.9


@dataclass(frozen=True)
class DrawnMap:
    """A map of a clip, or one look of it.

    Attributes:
        name: by which the head returns it.
        words: what it says.
        scaled: (T, K, K) over frames, or (T, rows) under them.
        rows: what there are several of, in a strip.
    """

    name: str
    words: str
    scaled: Scaled
    rows: str = "row"

    @property
    def caption(self) -> str:
        """What it says, how far its values go, and on how many places most of it lies."""
        said = f"{self.words}: {self.scaled.said}"
        if not (self.is_over_frames and self.scaled.unit == TIMES):
            return said
        return f"{said}; {concentration(self.scaled.values)}"

    @property
    def is_of_each_frame(self) -> bool:
        """Whether every frame shares out the same among its places, so that frames are alike."""
        is_share = self.is_over_frames and self.scaled.unit == TIMES
        return is_share and _has_equal_sums(self.scaled.values)

    @property
    def has_names(self) -> bool:
        """Whether a strip has several rows, which have names."""
        return not self.is_over_frames and self.scaled.values.shape[1] > 1

    @property
    def is_over_frames(self) -> bool:
        """Whether each frame has a value for each cell."""
        return self.scaled.values.ndim == 3


def draw_maps(head: Head, maps: dict[str, torch.Tensor], num_frames: int) -> list[DrawnMap]:
    """Return what is drawn of the maps of a batch's first clip: those over frames first.

    Raises:
        UsageError: the head returns no map.
        ContractError: a map is not finite, or its first axes are not clips and frames.
    """
    if not maps:
        raise UsageError(
            f"head {head.head_name!r} returns no map of where it looks, so there is nothing to "
            f"draw; these do: {', '.join(heads_with_maps())}"
        )
    drawn = []
    for name, of_batch in maps.items():
        shape = tuple(of_batch.shape)
        if of_batch.ndim not in (2, 3, 4, 5) or shape[1] < num_frames:
            raise ContractError(
                f"map {name!r} of head {head.head_name!r} is {shape}; a map that can be drawn is "
                "(B, T), (B, T, n), (B, T, K, K) or (B, T, n, K, K)"
            )
        values = of_batch[0, :num_frames].double().cpu().numpy()
        if not np.isfinite(values).all():
            raise ContractError(
                f"map {name!r} of head {head.head_name!r} holds values that are no finite numbers: "
                "its fit diverged; fit it with a smaller learning rate"
            )
        drawn += _looks(name, values, head.meaning_of(name))
    return sorted(drawn, key=lambda each: not each.is_over_frames)


def heads_with_maps() -> list[str]:
    """Return the names of the heads that return maps."""
    return [name for name in list_heads() if head_class(name).map_meanings]


def _looks(name: str, values: np.ndarray, meaning: MapMeaning) -> list[DrawnMap]:
    if values.ndim == 1:
        return [DrawnMap(name, meaning.words, scaled(values[:, None], meaning), meaning.rows)]
    on_scale = scaled(values, meaning)
    if values.ndim < 4:
        return [DrawnMap(name, meaning.words, on_scale, meaning.rows)]
    number = values.shape[1]
    chosen = most_concentrated(on_scale.values, MAX_PANES)
    which = f"of {number}" if number <= MAX_PANES else f"of {number}, one of the most concentrated"
    return [
        DrawnMap(
            name,
            f"{meaning.words}: {meaning.rows} {look + 1} {which}",
            replace(on_scale, values=on_scale.values[:, look]),
            meaning.rows,
        )
        for look in chosen
    ]


def concentration(values: np.ndarray) -> str:
    """Return on how many places half of (T, K, K) lies: of a frame, or where frames differ, of all.

    >>> concentration(np.array([[[8.0, 1.0], [1.0, 1.0]]])), concentration(np.ones((3, 2, 2)))
    ('half of it on 1 of the 4 places of a frame', 'half of it on 2 of the 4 places of a frame')
    >>> concentration(np.eye(4)[:1].reshape(1, 2, 2))
    'nearly all of it on 1 of the 4 places of a frame'
    """
    of_frames, where = values.reshape(len(values), -1), "of a frame"
    if not _has_equal_sums(values):
        of_frames, where = values.reshape(1, -1), "in all frames together"
    largest_first = -np.sort(-of_frames, axis=1)
    shares = largest_first.cumsum(1) / largest_first.sum(1, keepdims=True)
    number = float(np.median((shares >= 0.5 - 1e-9).argmax(1) + 1))
    how_much = "nearly all" if np.median(shares[:, 0]) >= NEARLY_ALL else "half"
    return f"{how_much} of it on {number:.0f} of the {of_frames.shape[1]} places {where}"


def _has_equal_sums(values: np.ndarray) -> bool:
    sums = values.reshape(len(values), -1).sum(1)
    return bool(sums.max() - sums.min() <= UNLIKE * sums.max())


def most_concentrated(values: np.ndarray, number: int) -> list[int]:
    """Return which looks of (T, looks, K, K) have the highest peaks in a frame, in their order."""
    peaks = values.max((2, 3)).mean(0)
    return sorted(np.argsort(-peaks, kind="stable")[:number].tolist())
