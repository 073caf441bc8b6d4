"""`cubereel bench extract`: the pipeline beside its floors and beside a plain loop, in one run.

All parts work on the same frames, in turn, for several rounds; the fastest round of each counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch.utils.flop_counter import FlopCounterMode

from extract.backbones import Backbone
from extract.compute.computer import ComputedFrames, CubeComputer
from extract.compute.lanes import ComputeLanes
from extract.compute.preprocess import Normalise
from extract.decode.pool import DecodePool, DecodeSettings, DecodeTask, Failed
from extract.video.reader import FrameReader, KeptFrame
from pipelines.measure.plain import compute_eagerly, decode_bare, decode_naively, extract_naively

logger = logging.getLogger("cubereel")
MATMUL_SIDE = 2048


# Kept frames per second are measured of these; 'whole' includes the start of the workers.
PARTS = {
    "decode_floor": "decode: bare, and swscale, one core",
    "decode": "decode: ours, one core",
    "decode_naive": "decode: to_ndarray and PIL, one core",
    "decode_pool": "decode: ours, in the workers",
    "backbone": "backbone: as the pipeline runs it",
    "backbone_eager": "backbone: eager fp32, NCHW",
    "whole": "whole: from videos to a sealed store",
    "plain": "plain loop: PyAV, PIL, eager network, a video at a time",
}


class Bench:
    """The parts, each a method that processes all frames once.

    Args:
        paths: whole videos, all of which can be decoded.
        computer: as the pipeline would use it.
        network: the same backbone, not moved or converted.
        settings: how the worker processes decode; other parts do it on the CPU.
        extract: extracts the videos to a new store and returns the seconds.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        computer: CubeComputer,
        network: Backbone,
        workers: int,
        settings: DecodeSettings,
        extract: Callable[[], float],
    ) -> None:
        self.paths, self._settings = paths, replace(settings, decoder="cpu")
        self._in_workers, self._workers = settings, workers
        self._computer, self._network = computer, network.to(computer.device)
        self._extract = extract
        self._normalise = Normalise(computer.preprocessing).to(computer.device)
        self.num_frames, self._pixels = self._look()

    def measure(self, rounds: int) -> dict[str, float]:
        """Return the kept frames per second of each of `PARTS`, in the fastest of some rounds."""
        parts: dict[str, Callable[[], float]] = {
            "decode_floor": lambda: timed(decode_bare, self.paths, self._settings),
            "decode": lambda: timed(self._decode),
            "decode_naive": lambda: timed(self._decode_naively),
            "decode_pool": lambda: timed(self._decode_in_workers),
            "backbone": lambda: timed(self._compute),
            "backbone_eager": lambda: timed(self._compute_eagerly),
            "whole": self._extract,
            "plain": lambda: timed(self._plain_loop),
        }
        seconds: dict[str, list[float]] = {name: [] for name in PARTS}
        for number in range(rounds):
            for name in PARTS:
                seconds[name].append(parts[name]())
                logger.info("round %d: %s %.2f s", number + 1, name, seconds[name][-1])
        return {name: self.num_frames / min(s) for name, s in seconds.items()}

    def gflop(self) -> float:
        """Return the operations that a frame costs, multiply and add counted as two, in 10⁹."""
        picture = self._normalise(torch.from_numpy(self._pixels[:1]).to(self._computer.device))
        with FlopCounterMode(display=False) as counter:
            self._network.network(picture)
        return float(counter.get_total_flops()) / 1e9

    def _look(self) -> tuple[int, UInt8[np.ndarray, "n h w 3"]]:
        """Return how many frames are kept, and a batch of the first ones."""
        num_frames = 0
        first: list[np.ndarray] = []
        for frame in self._frames():
            num_frames += 1
            if len(first) < self._computer.batch_size:
                first.append(frame.pixels)
        repeats = -(-self._computer.batch_size // len(first))
        return num_frames, np.stack(first * repeats)[: self._computer.batch_size]

    def _frames(self) -> Iterator[KeptFrame]:
        return chain.from_iterable(FrameReader(path, self._settings) for path in self.paths)

    def _decode(self) -> None:
        for _ in self._frames():
            pass

    def _decode_naively(self) -> None:
        for path in self.paths:
            for _ in decode_naively(path, self._settings):
                pass

    def _decode_in_workers(self) -> None:
        tasks = [DecodeTask(i, str(path)) for i, path in enumerate(self.paths)]
        with DecodePool(self._in_workers, workers=self._workers) as pool:
            for event in pool.decode(tasks):
                if isinstance(event, Failed):
                    raise event.error

    def _compute(self) -> None:
        work = partial(self._computer, torch.from_numpy(self._pixels))
        with ComputeLanes[None, ComputedFrames](self._computer.device) as lanes:
            for _ in range(0, self.num_frames, len(self._pixels)):
                lanes.add(None, work)
                for _ in lanes.ready():
                    pass
            for _ in lanes.rest():
                pass

    def _compute_eagerly(self) -> None:
        for _ in range(0, self.num_frames, len(self._pixels)):
            pixels = torch.from_numpy(self._pixels).to(self._computer.device)
            compute_eagerly(self._network, self._normalise, pixels)

    def _plain_loop(self) -> None:
        extract_naively(
            self.paths, self._settings, network=self._network, device=self._computer.device
        )


def timed(work: Callable[..., object], *arguments: object) -> float:
    """Return the seconds that something takes; what runs on the host waits for the device."""
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def extraction_floor(rates: Mapping[str, float], *, num_cores: int, shares_cores: bool) -> float:
    """Return frames per second that no pipeline of these parts can exceed.

    Where a GPU computes, the slower of bare decoding in all workers and the network; where both
    share the cores, the frames per second of one after the other, each on all cores.

    >>> rates = {"decode_floor": 100.0, "backbone": 50.0}
    >>> extraction_floor(rates, num_cores=2, shares_cores=True)
    40.0
    """
    decode, backbone = rates["decode_floor"] * num_cores, rates["backbone"]
    return 1 / (1 / decode + 1 / backbone) if shares_cores else min(decode, backbone)


def matmul_gflops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the rate of a large matrix product, 10⁹ operations a second."""
    a = torch.randn(MATMUL_SIDE, MATMUL_SIDE, device=device, dtype=dtype)
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        product = a @ (a @ a)
        product[0, 0].item()  # waits for the device
        seconds.append((time.perf_counter() - started) / 2)
    return 2 * MATMUL_SIDE**3 / min(seconds) / 1e9
