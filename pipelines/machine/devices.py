"""The device that computes, with the backbone on it; and what decodes, the CPU or that GPU."""

from __future__ import annotations

import logging
from functools import cache
from typing import cast, get_args

import torch

from extract.backbones import Backbone
from extract.compute.compiled import first_line
from extract.compute.computer import CubeComputer
from extract.compute.lanes import GPU_LANES
from extract.compute.machine import keep_freed_memory
from extract.compute.precision import choose_precision
from extract.compute.preprocess import preprocessing_for
from extract.video.decoders.names import DecoderName
from extract.video.decoders.registry import find_decoder
from features_store.errors import ContractError, MachineError, UsageError
from features_store.spec import Fit
from pipelines.machine.choices import AskedPrecision
from pipelines.machine.golden_clip import clip_path

logger = logging.getLogger("cubereel")
# A CPU computes 8 frames as fast as 32, in a third of the memory.
CPU_BATCH_SIZE, GPU_BATCH_SIZE = 8, 128


def build_computer(
    network: Backbone,
    *,
    fit: Fit,
    precision: AskedPrecision,
    device: str,
    batch_size: int | None,
) -> CubeComputer:
    """Put a backbone on its device at the precision that was asked for.

    Args:
        batch_size: None takes what suits the device.

    Raises:
        UsageError: there is no such device, or the batch size is below 1.
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"`batch_size` must be at least 1, got {batch_size}")
    chosen = choose_device(device)
    computer = CubeComputer(
        network,
        preprocessing_for(network.config, fit=fit),
        device=chosen,
        batch_size=batch_size or (CPU_BATCH_SIZE if chosen.type == "cpu" else GPU_BATCH_SIZE),
    )
    keep_freed_memory()
    choice = choose_precision(precision, computer)
    logger.info("%s on %s in %s (%s)", network.name, computer.device, choice.precision, choice.why)
    return computer.with_precision(choice.precision)


def launch_at_once(computer: CubeComputer) -> CubeComputer:
    """Return the computer with its kernels recorded on a GPU, as it is elsewhere.

    Raises:
        MachineError: the GPU has not enough memory.
    """
    if computer.device.type != "cuda":
        return computer
    try:
        return computer.recorded(GPU_LANES)
    except torch.OutOfMemoryError as err:
        raise MachineError(
            f"{computer.device} has no memory for {GPU_LANES} batches of {computer.batch_size} "
            "frames; give a smaller `batch_size`"
        ) from err
    except RuntimeError as err:  # what a network does cannot always be recorded
        logger.info("kernels are launched one by one, not as a CUDA graph (%s)", first_line(err))
        return computer


def choose_device(name: str) -> torch.device:
    """Return a device by name, a GPU with its number; ``auto`` is the first one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.empty(1, device=torch.device(name)).device
    except (RuntimeError, AssertionError) as err:
        reason = str(err).splitlines()[0]
        raise UsageError(
            f"no device {name!r} here ({reason}); give 'cpu', 'cuda' or 'auto'"
        ) from err
    return device


@cache  # a process tries it once
def require_decoder(decoder: DecoderName, device: torch.device) -> int:
    """Return the number of the GPU on which it would decode, if it decodes on one.

    Raises:
        MachineError: it cannot be used here.
    """
    number = device.index or 0
    find_decoder(decoder)(number).require(clip_path())
    return number


def decoder_of(spec_decoder: str) -> DecoderName:
    """Return what decodes as a store's videos were decoded.

    Raises:
        ContractError: that is not known, as of imported features.
    """
    if spec_decoder not in get_args(DecoderName):
        raise ContractError(
            f"the store's videos were decoded by {spec_decoder!r}, so new ones cannot be made alike"
        )
    return cast(DecoderName, spec_decoder)
