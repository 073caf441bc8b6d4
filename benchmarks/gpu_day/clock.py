"""Rates of work on a device, measured with its own clock."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def synchronise(device: torch.device) -> None:
    """Wait for all work of a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(work: Callable[[], object], device: torch.device, *, seconds: float) -> float:
    """Return how often a second work is done; three times before the clock starts."""
    for _ in range(3):
        work()
    synchronise(device)
    started, num_done, elapsed = time.perf_counter(), 0, 0.0
    burst = 1
    while elapsed < seconds:
        for _ in range(burst):
            work()
        num_done += burst
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - started
        burst = max(1, min(2 * burst, int(num_done / elapsed * seconds / 4)))
    return num_done / elapsed
