"""Torch's random numbers of one fit, apart from those of others and of whoever called."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with torch's generators seeded; restore them afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class Randomness:
    """The random numbers of one fit: fits that take turns draw what each would draw alone."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        with seeded(seed):
            self._states = self._now()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Run a block that goes on where the last one ended."""
        before = self._now()
        self._set(self._states)
        try:
            yield
        finally:
            self._states = self._now()
            self._set(before)

    def _now(self) -> list[torch.Tensor]:
        states = [torch.random.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return states

    def _set(self, states: list[torch.Tensor]) -> None:
        torch.random.set_rng_state(states[0])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self._device)
