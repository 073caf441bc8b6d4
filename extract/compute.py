"""Frames to cubes on a device: normalise, run the frozen backbone, bring the result back."""

import copy
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from extract.backbones.registry import Backbone
from extract.preprocess import Normalise, thumbnails
from features_store.errors import MachineError
from features_store.spec import Precision, Preprocessing


@dataclass(frozen=True)
class ComputedFrames:
    """Cubes per layer (n, K, K, D) float32 and thumbnails (n, 14, 14, 3) of n frames."""

    cubes: dict[str, np.ndarray]
    thumbnails: np.ndarray


class CubeComputer:
    """Computes cubes in batches of one fixed size.

    A short batch is filled up with black frames: libraries choose their kernels by batch size, so
    a cube could otherwise depend on how many frames it travelled with.
    """

    def __init__(
        self,
        backbone: Backbone,
        preprocessing: Preprocessing,
        *,
        device: torch.device,
        batch_size: int,
        precision: Precision = "fp32",
    ) -> None:
        self.preprocessing = preprocessing
        self.device = device
        self.batch_size = batch_size
        self.precision: Precision = precision
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._normalise = Normalise(preprocessing).to(device)
        self._original = backbone
        moved = copy.deepcopy(backbone).to(device, self._dtype)
        # A copy of a traced network forgets that it was in evaluation mode.
        self._backbone = moved.to(memory_format=torch.channels_last).eval()

    def with_precision(self, precision: Precision) -> "CubeComputer":
        """Return the same computer at another precision."""
        if precision == self.precision:
            return self
        return CubeComputer(
            self._original,
            self.preprocessing,
            device=self.device,
            batch_size=self.batch_size,
            precision=precision,
        )

    def __call__(
        self,
        pixels: UInt8[Tensor, "n h w 3"],
        *,
        minus: UInt8[Tensor, "n h w 3"] | None = None,
    ) -> ComputedFrames:
        """Compute any number of frames.

        Args:
            minus: frames to subtract once both are normalised; cubes are of the difference.

        Raises:
            MachineError: the device has not enough memory for a batch.
        """
        try:
            blocks = [
                self._batch(*both)
                for both in zip(
                    torch.split(pixels, self.batch_size),
                    repeat(None) if minus is None else torch.split(minus, self.batch_size),
                    strict=False,
                )
            ]
        except torch.OutOfMemoryError as err:
            raise MachineError(
                f"{self.device} has no memory for batches of {self.batch_size} frames; "
                "give a smaller --batch-size"
            ) from err
        layers = blocks[0].cubes
        return ComputedFrames(
            {layer: np.concatenate([block.cubes[layer] for block in blocks]) for layer in layers},
            np.concatenate([block.thumbnails for block in blocks]),
        )

    @torch.inference_mode()
    def thumbnails(self, pixels: UInt8[Tensor, "n h w 3"]) -> np.ndarray:
        """Return thumbnails (n, 14, 14, 3) alone, of any number of frames."""
        return thumbnails(pixels.to(self.device)).cpu().numpy()

    @torch.inference_mode()
    def _batch(
        self, pixels: UInt8[Tensor, "n h w 3"], minus: UInt8[Tensor, "n h w 3"] | None
    ) -> ComputedFrames:
        num_frames = len(pixels)
        pixels = self._filled_up(pixels).to(self.device)
        pictures = self._normalise(pixels)
        if minus is not None:
            pictures = pictures - self._normalise(self._filled_up(minus).to(self.device))
        maps = self._backbone(pictures.to(self._dtype))
        cubes = {
            layer: cube[:num_frames].float().contiguous().cpu().numpy()
            for layer, cube in maps.items()
        }
        return ComputedFrames(cubes, thumbnails(pixels)[:num_frames].cpu().numpy())

    def _filled_up(self, pixels: UInt8[Tensor, "n h w 3"]) -> UInt8[Tensor, "b h w 3"]:
        missing = self.batch_size - len(pixels)
        if not missing:
            return pixels
        return torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])])
