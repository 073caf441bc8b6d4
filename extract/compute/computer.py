"""Frames to cubes on a device: normalise, run the frozen backbone, bring the result back."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from extract.backbones.registry import Backbone
from extract.compute.device_copies import copy_into, to_device, to_host
from extract.compute.fixed_batch import Places, record
from extract.compute.preprocess import Normalise, thumbnails
from features_store.errors import MachineError
from features_store.spec import Precision, Preprocessing


@dataclass(frozen=True)
class ComputedFrames:
    """Cubes per layer (n, K, K, D) and thumbnails (n, 14, 14, 3) float32 of n frames."""

    cubes: dict[str, np.ndarray]
    thumbnails: np.ndarray


class CubeComputer:
    """Computes cubes in batches of one fixed size.

    A short batch is filled up with black frames: libraries choose their kernels by batch size, so
    a cube could otherwise depend on how many frames it travelled with. Cubes become what `cubes_as`
    says on the device, so that no byte is copied for nothing.
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
        if device.type == "cuda":
            # By default torch's convolutions round float32 to 10 bits; fp32 is what it says.
            torch.backends.cudnn.allow_tf32 = False
        self._normalise = Normalise(preprocessing).to(device)
        self.backbone = backbone
        moved = copy.deepcopy(backbone).to(device, self._dtype)
        # A copy of a traced network forgets that it was in evaluation mode.
        self.network = moved.to(memory_format=torch.channels_last).eval().network
        self._run: Callable[[Tensor], dict[str, Tensor]] = self.network
        self._cube_dtype = torch.float32
        self._places: Places | None = None

    def with_precision(self, precision: Precision) -> "CubeComputer":
        """Return the same computer at another precision."""
        if precision == self.precision:
            return self
        return CubeComputer(
            self.backbone,
            self.preprocessing,
            device=self.device,
            batch_size=self.batch_size,
            precision=precision,
        )

    def compiled(self) -> "CubeComputer":
        """Return the same computer with its network compiled, which the first batch does."""
        other = copy.copy(self)
        options: dict[str, Any] = {"compile_threads": 1}
        if self.device.type == "cpu":
            options["cpp_wrapper"] = True  # lets go of the GIL, which the other lanes need
        other._run = torch.compile(self.network, dynamic=False, options=options)
        other._places = None
        return other

    def cubes_as(self, dtype: torch.dtype) -> "CubeComputer":
        """Return the same computer that gives cubes of another dtype, rounded to nearest."""
        other = copy.copy(self)
        other._cube_dtype = dtype
        other._places = None
        return other

    def recorded(self, num_places: int) -> "CubeComputer":
        """Return the same computer, as CUDA graphs for as many batches at a time; cubes are equal.

        Raises:
            RuntimeError: the network cannot be recorded, or not so often in the memory there is.
        """
        other = copy.copy(self)
        shape = (self.batch_size, *self.preprocessing.input_size, 3)
        other._places = Places(
            [
                record(self._on_device, torch.zeros(shape, dtype=torch.uint8, device=self.device))
                for _ in range(num_places)
            ]
        )
        return other

    @property
    def is_compiled(self) -> bool:
        """Whether its network is compiled."""
        return self._run is not self.network

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
        except (torch.OutOfMemoryError, torch.AcceleratorError) as err:
            if "out of memory" not in str(err):
                raise
            raise MachineError(
                f"{self.device} has no memory for batches of {self.batch_size} frames; "
                "give a smaller `batch_size`"
            ) from err
        if len(blocks) == 1:
            return blocks[0]
        return ComputedFrames(
            {
                layer: np.concatenate([block.cubes[layer] for block in blocks])
                for layer in blocks[0].cubes
            },
            np.concatenate([block.thumbnails for block in blocks]),
        )

    @torch.inference_mode()
    def thumbnails(self, pixels: UInt8[Tensor, "n h w 3"]) -> np.ndarray:
        """Return thumbnails (n, 14, 14, 3) alone, of any number of frames."""
        (small,) = to_host([thumbnails(to_device(pixels, self.device))])
        return small

    @torch.inference_mode()
    def _batch(
        self, pixels: UInt8[Tensor, "n h w 3"], minus: UInt8[Tensor, "n h w 3"] | None
    ) -> ComputedFrames:
        if self._places is not None and minus is None:
            with self._places.take() as place:
                copy_into(place.pixels[: len(pixels)], pixels)
                place.pixels[len(pixels) :].zero_()
                place.run()
                return self._frames([output[: len(pixels)] for output in place.outputs])
        shown = to_device(self._filled_up(pixels), self.device)
        before = None if minus is None else to_device(self._filled_up(minus), self.device)
        return self._frames(self._on_device(shown, before, num_frames=len(pixels)))

    def _frames(self, outputs: Sequence[Tensor]) -> ComputedFrames:
        small, *cubes = to_host(outputs)
        names = [layer.name for layer in self.backbone.layers]
        return ComputedFrames(dict(zip(names, cubes, strict=True)), small)

    def _on_device(
        self,
        shown: UInt8[Tensor, "b h w 3"],
        minus: UInt8[Tensor, "b h w 3"] | None = None,
        *,
        num_frames: int | None = None,
    ) -> list[Tensor]:
        """Return thumbnails and each layer's cubes of the first frames of a batch."""
        pictures = self._normalise(shown)
        if minus is not None:
            pictures = pictures - self._normalise(minus)
        maps = self._run(pictures.to(self._dtype))
        cubes = [
            m.permute(0, 2, 3, 1)[:num_frames].to(self._cube_dtype).contiguous()
            for m in maps.values()
        ]
        return [thumbnails(shown)[:num_frames], *cubes]

    def _filled_up(self, pixels: UInt8[Tensor, "n h w 3"]) -> UInt8[Tensor, "b h w 3"]:
        missing = self.batch_size - len(pixels)
        if not missing:
            return pixels
        return torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])])
