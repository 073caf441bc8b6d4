"""A seed for one fit, without disturbing whoever called."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with torch's generators seeded; restore them afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
