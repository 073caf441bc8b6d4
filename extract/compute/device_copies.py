"""Copies between the host and a device that compute beside them: pinned memory, one wait a batch.

Pinned buffers come from torch's own cache and go back to it with their last view, so none is
page-locked twice.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def gather(blocks: Sequence[np.ndarray], device: torch.device) -> np.ndarray:
    """Return blocks one behind the other, from where the device copies without waiting.

    Args:
        blocks: (n, …) each, of one dtype; they are left as they are.
    """
    if device.type != "cuda":
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    shape = (sum(map(len, blocks)), *blocks[0].shape[1:])
    dtype = torch.from_numpy(blocks[0][:0]).dtype
    pinned = torch.empty(shape, dtype=dtype, pin_memory=True).numpy()
    return np.concatenate(blocks, out=pinned)


def to_device(pixels: Tensor, device: torch.device) -> Tensor:
    """Copy to a device, in the order of the current stream; the host goes on at once."""
    if device.type != "cuda":
        return pixels.to(device)
    return _pinned(pixels).to(device, non_blocking=True)


def copy_into(target: Tensor, pixels: Tensor) -> None:
    """Copy to memory of a device, in the order of the current stream; the host goes on at once."""
    source = _pinned(pixels) if target.device.type == "cuda" else pixels
    target.copy_(source, non_blocking=True)


def to_host(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """Return tensors of a device as arrays of the host; wait once, for all of them.

    On a GPU the arrays are copies: the tensors may be written again as soon as this returns.
    """
    if tensors[0].device.type != "cuda":
        return [tensor.numpy() for tensor in tensors]
    on_host = [torch.empty_like(tensor, device="cpu", pin_memory=True) for tensor in tensors]
    for target, tensor in zip(on_host, tensors, strict=True):
        target.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return [target.numpy() for target in on_host]


def _pinned(pixels: Tensor) -> Tensor:
    return pixels if pixels.is_pinned() else pixels.pin_memory()
