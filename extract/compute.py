"""Frames to cubes on a device: normalise, run the frozen backbone, bring the result back."""

import copy
from dataclasses import dataclass

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

    def __call__(self, pixels: UInt8[Tensor, "n h w 3"]) -> ComputedFrames:
        """Compute any number of frames.

        Raises:
            MachineError: the device has not enough memory for a batch.
        """
        try:
            blocks = [self._batch(block) for block in torch.split(pixels, self.batch_size)]
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
    def _batch(self, pixels: UInt8[Tensor, "n h w 3"]) -> ComputedFrames:
        num_frames = len(pixels)
        if num_frames < self.batch_size:
            filler = pixels.new_zeros(self.batch_size - num_frames, *pixels.shape[1:])
            pixels = torch.cat([pixels, filler])
        pixels = pixels.to(self.device)
        maps = self._backbone(self._normalise(pixels).to(self._dtype))
        cubes = {
            layer: cube[:num_frames].float().contiguous().cpu().numpy()
            for layer, cube in maps.items()
        }
        return ComputedFrames(cubes, thumbnails(pixels)[:num_frames].cpu().numpy())
