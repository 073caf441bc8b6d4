"""Which pictures of a kept frame go to the backbone, and how they travel: one below the other."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from features_store.spec import Sampling
from features_store.views import CENTER, crop_of


@dataclass(frozen=True)
class PictureStack:
    """The pictures of one frame: its crops, then the same crops of the frame decoded before it.

    Attributes:
        views: whose cubes are wanted. A mirrored one travels as the crop that it mirrors.
        has_previous: whether the crops of the frame before are there. Differences are to it where
            kept frames lie far apart; else the kept frame before will do.
    """

    views: tuple[str, ...] = (CENTER,)
    has_previous: bool = False

    @classmethod
    def of(cls, sampling: Sampling, views: Iterable[str]) -> "PictureStack":
        """Return the stack that a store's sampling and views need."""
        return cls(tuple(views), sampling.is_sparse)

    @property
    def crops(self) -> tuple[str, ...]:
        """The views that are crops of their own, and of which others are mirrors."""
        return tuple(dict.fromkeys(map(crop_of, self.views)))

    @property
    def num_pictures(self) -> int:
        """Of one frame."""
        return len(self.crops) * (1 + self.has_previous)

    def size(self, input_size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the stack."""
        return self.num_pictures * input_size[0], input_size[1]

    def view(
        self, stacks: UInt8[np.ndarray, "n stacked_h w 3"], view: str
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """Return the picture of a view of each frame."""
        return self._picture(stacks, view, self.crops.index(crop_of(view)))

    def previous(
        self, stacks: UInt8[np.ndarray, "n stacked_h w 3"], view: str
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """Return the picture of a view of the frame before each frame."""
        assert self.has_previous
        return self._picture(stacks, view, len(self.crops) + self.crops.index(crop_of(view)))

    def _picture(self, stacks: np.ndarray, view: str, position: int) -> np.ndarray:
        height = stacks.shape[1] // self.num_pictures
        picture = stacks[:, position * height : (position + 1) * height]
        return np.ascontiguousarray(picture if view == crop_of(view) else picture[:, :, ::-1])
