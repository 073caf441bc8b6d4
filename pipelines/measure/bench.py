"""`cubereel bench extract`: the pipeline beside its floors and beside a plain loop, in one run.

All parts work on the same frames, in turn, for several rounds; the fastest round of each counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from extract.video.reader import FrameReader
from pipelines.measure.plain import compute_eagerly, decode_bare, decode_naively, extract_naively

logger = logging.getLogger("cubereel")
MATMUL_SIDE = 2048


@dataclass(frozen=True)
class Rates:
    """Kept frames per second of the parts of extraction.

    Attributes:
        decode_floor: bare decoding and swscale, one core.
        decode: ours, one core.
        decode_naive: `to_ndarray` and PIL, one core.
        decode_pool: ours, in the worker processes that were asked for.
        backbone: the network alone, as the pipeline runs it.
        backbone_eager: the network in eager fp32, NCHW, one batch after the other.
        whole: from videos to a sealed store, the start of the workers included.
        plain: PyAV, PIL and the eager network, one video at a time.
    """

    decode_floor: float
    decode: float
    decode_naive: float
    decode_pool: float
    backbone: float
    backbone_eager: float
    whole: float
    plain: float


class Bench:
    """The parts, each a method that processes all frames once and returns the seconds it took.

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
        self._paths, self._settings, self._workers = paths, settings, workers
        self._sampling, self._preprocessing = settings.sampling, settings.preprocessing
        self._computer, self._extract = computer, extract
        self._network = network.to(computer.device)
        self._normalise = Normalise(computer.preprocessing).to(computer.device)
        self.num_frames, self._pixels = self._look()

    @property
    def num_videos(self) -> int:
        """Videos that are measured on."""
        return len(self._paths)

    def measure(self, rounds: int) -> Rates:
        """Return the fastest of some rounds."""
        parts: dict[str, Callable[[], float]] = {
            "decode_floor": lambda: timed(self._decode_bare),
            "decode": lambda: timed(self._decode),
            "decode_naive": lambda: timed(self._decode_naively),
            "decode_pool": lambda: timed(self._decode_in_workers),
            "backbone": lambda: timed(self._compute),
            "backbone_eager": lambda: timed(self._compute_eagerly),
            "whole": self._extract,
            "plain": lambda: timed(self._plain_loop),
        }
        seconds: dict[str, list[float]] = {name: [] for name in parts}
        for number in range(rounds):
            for name, part in parts.items():
                seconds[name].append(part())
                logger.info("round %d: %s %.2f s", number + 1, name, seconds[name][-1])
        return Rates(**{name: self.num_frames / min(s) for name, s in seconds.items()})

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
        for path in self._paths:
            for frame in self._reader(path):
                num_frames += 1
                if len(first) < self._computer.batch_size:
                    first.append(frame.pixels)
        repeats = -(-self._computer.batch_size // len(first))
        return num_frames, np.stack(first * repeats)[: self._computer.batch_size]

    def _reader(self, path: Path) -> FrameReader:
        return FrameReader(path, replace(self._settings, decoder="cpu"))

    def _decode_bare(self) -> None:
        decode_bare(self._paths, preprocessing=self._preprocessing, sampling=self._sampling)

    def _decode(self) -> None:
        for path in self._paths:
            for _ in self._reader(path):
                pass

    def _decode_naively(self) -> None:
        for path in self._paths:
            for _ in decode_naively(
                path, preprocessing=self._preprocessing, sampling=self._sampling
            ):
                pass

    def _decode_in_workers(self) -> None:
        tasks = [DecodeTask(i, str(path)) for i, path in enumerate(self._paths)]
        with DecodePool(self._settings, workers=self._workers) as pool:
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
            self._paths,
            network=self._network,
            preprocessing=self._preprocessing,
            sampling=self._sampling,
            device=self._computer.device,
        )


def timed(work: Callable[[], None]) -> float:
    """Return the seconds that something takes; what runs on the host waits for the device."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def extraction_floor(rates: Rates, *, num_cores: int, shares_cores: bool) -> float:
    """Return frames per second that no pipeline of these parts can exceed.

    Where a GPU computes, the slower of bare decoding in all workers and the network; where both
    share the cores, the frames per second of one after the other, each on all cores.

    >>> rates = Rates(100.0, 90.0, 30.0, 90.0, 50.0, 10.0, 30.0, 5.0)
    >>> extraction_floor(rates, num_cores=2, shares_cores=True)
    40.0
    """
    decode = rates.decode_floor * num_cores
    if shares_cores:
        return 1 / (1 / decode + 1 / rates.backbone)
    return min(decode, rates.backbone)


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
