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
        self.backbone = backbone
        moved = copy.deepcopy(backbone).to(device, self._dtype)
        # A copy of a traced network forgets that it was in evaluation mode.
        self.network = moved.to(memory_format=torch.channels_last).eval().network
        self._run: Callable[[Tensor], dict[str, Tensor]] = self.network

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
        (small,) = self._to_host([thumbnails(self._to_device(pixels))])
        return small

    @torch.inference_mode()
    def _batch(
        self, pixels: UInt8[Tensor, "n h w 3"], minus: UInt8[Tensor, "n h w 3"] | None
    ) -> ComputedFrames:
        num_frames = len(pixels)
        shown = self._to_device(self._filled_up(pixels))
        pictures = self._normalise(shown)
        if minus is not None:
            pictures = pictures - self._normalise(self._to_device(self._filled_up(minus)))
        maps = self._run(pictures.to(self._dtype))
        cubes = [m.permute(0, 2, 3, 1)[:num_frames].float().contiguous() for m in maps.values()]
        small, *on_host = self._to_host([thumbnails(shown)[:num_frames], *cubes])
        return ComputedFrames(dict(zip(maps, on_host, strict=True)), small)

    def _to_device(self, pixels: Tensor) -> Tensor:
        if self.device.type != "cuda":
            return pixels.to(self.device)
        # From pinned memory a copy goes on beside the computing of the other lane.
        return pixels.pin_memory().to(self.device, non_blocking=True)

    def _to_host(self, tensors: Sequence[Tensor]) -> list[np.ndarray]:
        if self.device.type != "cuda":
            return [tensor.cpu().numpy() for tensor in tensors]
        on_host = [torch.empty_like(tensor, device="cpu", pin_memory=True) for tensor in tensors]
        for target, tensor in zip(on_host, tensors, strict=True):
            target.copy_(tensor, non_blocking=True)
        torch.cuda.current_stream(self.device).synchronize()
        return [target.numpy() for target in on_host]

    def _filled_up(self, pixels: UInt8[Tensor, "n h w 3"]) -> UInt8[Tensor, "b h w 3"]:
        missing = self.batch_size - len(pixels)
        if not missing:
            return pixels
        return torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])])
