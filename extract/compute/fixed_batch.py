"""The place of one batch on a GPU: input and outputs that stay where they are, one launch a batch.

Hundreds of small kernels are recorded once, as a CUDA graph. Launched one by one they hold Python's
lock, which decoding and writing need too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue

import torch
from torch import Tensor

WARM_UPS = 3  # libraries choose kernels and take memory, neither of which can be recorded


class FixedBatch:
    """Input and outputs in memory of their own, and what computes the one from the other.

    Attributes:
        pixels: the input, to be written before `run`.
        outputs: written by `run`, in the order of the current stream.
        run: computes; it must not be called again before the outputs are copied.
    """

    def __init__(self, pixels: Tensor, outputs: Sequence[Tensor], run: Callable[[], None]) -> None:
        self.pixels = pixels
        self.outputs = list(outputs)
        self.run = run


@torch.inference_mode()
def record(compute: Callable[[Tensor], list[Tensor]], pixels: Tensor) -> FixedBatch:
    """Record a computation as a CUDA graph.

    Args:
        compute: input to outputs, without a word between the device and the host.
        pixels: memory of the GPU, which becomes the input.

    Raises:
        RuntimeError: it cannot be recorded.
    """
    device = pixels.device
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            compute(pixels)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    # On a stream of its own: torch gives each a workspace, which graphs that run at once must not
    # share, and its default one may be another device's.
    with torch.cuda.graph(graph, stream=stream):
        outputs = compute(pixels)
    return FixedBatch(pixels, outputs, graph.replay)


class Places:
    """Places that batches take in turn; each is one batch's alone until it is given back."""

    def __init__(self, places: Sequence[FixedBatch]) -> None:
        self._free: SimpleQueue[FixedBatch] = SimpleQueue()
        for place in places:
            self._free.put(place)

    @contextmanager
    def take(self) -> Iterator[FixedBatch]:
        """Wait for a free place; whoever leaves it must have copied its outputs."""
        place = self._free.get()
        try:
            yield place
        finally:
            self._free.put(place)
