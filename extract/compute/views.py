"""The views of frames to cubes: what of a batch goes to the backbone, and what comes back."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from extract.compute.batching import FrameBlock
from extract.compute.computer import ComputedFrames, CubeComputer
from extract.compute.device_copies import gather
from extract.decode.events import Failed, Finished
from extract.video.pictures import PictureStack

Batch = list[FrameBlock | Finished | Failed]


class ComputedView(NamedTuple):
    """Frames of one view.

    Attributes:
        before: thumbnails of the frames decoded before, where differences are to those.
        diff_cubes: of difference images, by layer; empty where they are not wanted.
    """

    frames: ComputedFrames
    before: np.ndarray | None
    diff_cubes: dict[str, np.ndarray]


class ViewComputer:
    """Computes the views of batches, which are to come in the order of their frames.

    Args:
        stack: the pictures of a frame, as the pool sends them; cubes are of its views.
        has_diff_cubes: whether cubes of difference images are wanted too.
    """

    def __init__(
        self, computer: CubeComputer, *, stack: PictureStack, has_diff_cubes: bool = False
    ) -> None:
        self.computer = computer
        self._stack = stack
        self._has_diff_cubes = has_diff_cubes
        self._last: np.ndarray | None = None  # kept frame of the video in work, as it travelled

    def work(self, batch: Batch) -> Callable[[], dict[str, ComputedView]] | None:
        """Return what computes a batch, view by view; None where it has no frame."""
        blocks = [item.pixels for item in batch if isinstance(item, FrameBlock)]
        kept_before = self._kept_before(batch)
        return partial(self._compute, blocks, kept_before) if blocks else None

    def _kept_before(self, batch: Batch) -> np.ndarray | None:
        """Return for each frame of a batch the kept one before it; for a video's first itself.

        None where the cubes of difference images do not need them.
        """
        if self._stack.has_previous or not self._has_diff_cubes:
            return None
        before = []
        for item in batch:
            if isinstance(item, FrameBlock):
                last = item.pixels[0] if self._last is None else self._last
                before += [last[None], item.pixels[:-1]]
                self._last = item.pixels[-1]
            else:
                self._last = None
        return np.concatenate(before) if before else None

    def _compute(
        self, blocks: Sequence[np.ndarray], kept_before: np.ndarray | None
    ) -> dict[str, ComputedView]:
        """Compute the views of frames that travel in `blocks`, behind those in `kept_before`."""
        pixels = gather(blocks, self.computer.device)
        computed = {}
        for view in self._stack.views:
            shown = torch.from_numpy(self._stack.view(pixels, view))
            before, minus = None, None
            if self._stack.has_previous:
                minus = torch.from_numpy(self._stack.previous(pixels, view))
                before = self.computer.thumbnails(minus)
            elif kept_before is not None:
                minus = torch.from_numpy(self._stack.view(kept_before, view))
            diff_cubes = self.computer(shown, minus=minus).cubes if self._has_diff_cubes else {}
            computed[view] = ComputedView(self.computer(shown), before, diff_cubes)
        return computed
