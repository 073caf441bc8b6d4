"""`cubereel bench train`: training steps of heads beside their floors and a plain loop.

On a CPU all of it runs in one thread: a fit has a core to itself, and others fill the rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from extract.compute.machine import keep_freed_memory
from features_store.errors import UsageError
from features_store.store import Store
from pipelines.machine.devices import choose_device
from pipelines.measure.bench import matmul_gflops
from pipelines.measure.plain_training import PlainClips, PlainSoftAttention, plain_steps
from train.data.ahead import BatchReader, Epoch
from train.data.batch import Batch
from train.data.clips import Clips
from train.data.order import shuffled_batches
from train.fitting.condensed import condensed_for
from train.fitting.config import TrainConfig
from train.fitting.state import FitState, candidates, training_loss
from train.fitting.tasks import SINGLE_LABEL
from train.heads import HeadChoice, head_class
from train.heads.soft_attention import SoftAttention

logger = logging.getLogger("cubereel")
NUM_CLASSES = 2
TOGETHER = 3  # fits that share a read: those of three rates, or of three seeds
COPIED_BYTES = 2**28


@dataclass(frozen=True)
class HeadRates:
    """Clips per second of training, all fits counted.

    Attributes:
        one, together: ours, of one fit and of three that share each batch.
        plain: h5py, a `DataLoader`, an eager step; for soft attention an `LSTMCell`.
        by_bytes: what it could be if it only read what a step computes with, in float32, once
            forwards and once backwards, as fast as memory is copied.
        by_operations: what it could be at the rate of a large matrix product.
    """

    head: str
    one: float
    together: float
    plain: float
    by_bytes: float
    by_operations: float | None

    @property
    def floor(self) -> float:
        """Clips per second that no step of this head can exceed."""
        return min(self.by_bytes, self.by_operations or self.by_bytes)


def bench_train(
    store: str | Path,
    heads: Sequence[str],
    *,
    config: TrainConfig,
    device: str = "auto",
    seconds: float = 4.0,
) -> list[dict[str, Any]]:
    """Measure heads on a store's clips, for so many seconds each; return rates and ratios.

    Raises:
        UsageError: an unknown head, or one that trains the backbone's last layers.
    """
    choices = [HeadChoice.parse(head) for head in heads]
    for choice in choices:
        choice.check()
        if head_class(choice.name).takes_tail:
            raise UsageError(f"head {choice.name!r} trains layers of a backbone; not measured here")
    keep_freed_memory()
    where = choose_device(device)
    threads = torch.get_num_threads()
    if where.type == "cpu":
        torch.set_num_threads(1)
    try:
        with Store(store) as opened:
            clips = Clips(
                opened, opened.ids, windows=config.window_plan, layers=config.layers,
                view=config.view, device=where,
            )  # fmt: skip
            with closing(clips):
                bench = _Bench(clips, config, seconds)
                return [_row(bench.measure(choice)) for choice in choices]
    finally:
        torch.set_num_threads(threads)


def _row(rates: HeadRates) -> dict[str, Any]:
    return asdict(rates) | {
        "to_plain": rates.one / rates.plain,
        "to_floor": max(rates.one, rates.together) / rates.floor,
    }


class _Bench:
    def __init__(self, clips: Clips, config: TrainConfig, seconds: float) -> None:
        self._clips, self._config, self._seconds = clips, config, seconds
        self._labels = np.arange(len(clips.video_ids)) % NUM_CLASSES
        self._bytes_per_second = copied_bytes_per_second(clips.device)
        self._flops_per_second = matmul_gflops(clips.device, torch.float32) * 1e9

    def measure(self, choice: HeadChoice) -> HeadRates:
        head = choice.build(self._clips, NUM_CLASSES)
        with torch.no_grad():
            own = condensed_for(self._clips, head, batch_size=self._config.batch_size)
        batch = own.batch(self._positions[: self._config.batch_size])
        tensors = [*batch.cubes.values(), *(batch.condensed or {}).values()]
        read_bytes = 2 * sum(tensor.nbytes for tensor in tensors) / len(batch.mask)
        operations = self._operations(choice, own)
        rates = HeadRates(
            choice.label,
            one=self._ours(choice, own, 1),
            together=self._ours(choice, own, TOGETHER),
            plain=self._plain(choice),
            by_bytes=self._bytes_per_second / read_bytes,
            by_operations=self._flops_per_second / operations if operations else None,
        )
        logger.info("%s: %.0f clips/s", choice.label, rates.one)
        return rates

    @property
    def _positions(self) -> np.ndarray:
        return np.arange(len(self._clips))

    def _state(self, choice: HeadChoice, clips: Clips) -> FitState:
        candidate = candidates(head_class(choice.name), self._config)[0]
        state = FitState(
            lambda: choice.build(self._clips, NUM_CLASSES),
            seed=0, candidate=candidate, config=self._config, device=clips.device,
        )  # fmt: skip
        batch_size = self._config.batch_size
        state.begin(Epoch(clips, self._positions[: 2 * batch_size], batch_size), num_steps=10**6)
        state.head.train()
        return state

    def _targets(self, clips: Clips, chosen: np.ndarray) -> Tensor:
        return torch.from_numpy(self._labels[clips.videos_of(chosen)]).to(clips.device)

    def _ours(self, choice: HeadChoice, clips: Clips, number: int) -> float:
        states = [self._state(choice, clips) for _ in range(number)]
        rng, reader = np.random.default_rng(0), BatchReader(clips)

        def endless() -> Iterator[np.ndarray]:
            while True:
                yield from shuffled_batches(
                    self._positions, clips.lengths, batch_size=self._config.batch_size, rng=rng
                )

        batches = reader.read(endless())

        def step() -> int:
            chosen, batch = next(batches)
            targets = self._targets(clips, chosen)
            for state in states:
                state.step(batch, targets, None, SINGLE_LABEL)
            return number * len(chosen)

        return self._rate(step)

    def _plain(self, choice: HeadChoice) -> float:
        dataset, device = PlainClips(self._clips), self._clips.device
        head = choice.build(self._clips, NUM_CLASSES).train()
        logits_of: Callable[[Batch], Tensor] = lambda batch: head(batch).logits  # noqa: E731
        parameters = list(head.parameters())
        if isinstance(head, SoftAttention):
            plain = PlainSoftAttention(
                head.grid_size**2, head.dim, hidden=head.output.hidden.in_features,
                num_layers=len(head.lstm.layers), num_classes=NUM_CLASSES,
            ).to(device)  # fmt: skip
            logits_of, parameters = partial(_logits, plain), list(plain.parameters())

        def loss_of(batch: Batch) -> Tensor:
            targets = torch.zeros(len(batch.mask), dtype=torch.long, device=device)
            return SINGLE_LABEL.loss(logits_of(batch), targets, batch.mask, None)

        step = plain_steps(
            dataset, loss_of, parameters, batch_size=self._config.batch_size, device=device
        )  # fmt: skip
        return self._rate(step)

    def _operations(self, choice: HeadChoice, clips: Clips) -> float | None:
        """Return the operations of a training step for each clip; None where none is counted."""
        state, chosen = self._state(choice, clips), self._positions[: self._config.batch_size]
        batch, targets = clips.batch(chosen), self._targets(clips, chosen)
        with FlopCounterMode(display=False) as counter:
            loss = training_loss(state.head, batch, targets, None, SINGLE_LABEL)
            torch.autograd.backward(loss)
        return float(counter.get_total_flops()) / len(chosen) or None

    def _rate(self, step: Callable[[], int]) -> float:
        """Return clips per second of some seconds of steps, after one that is not counted."""
        step()
        self._wait()
        started, num_clips = time.perf_counter(), 0
        while num_clips == 0 or time.perf_counter() - started < self._seconds:
            num_clips += step()
        self._wait()
        return num_clips / (time.perf_counter() - started)

    def _wait(self) -> None:
        if self._clips.device.type == "cuda":
            torch.cuda.synchronize(self._clips.device)


def _logits(plain: PlainSoftAttention, batch: Batch) -> Tensor:
    logits: Tensor = plain(batch.top, batch.mask)
    return logits


def copied_bytes_per_second(device: torch.device) -> float:
    """Return how fast memory that no cache holds is read, while it is copied."""
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target, seconds = torch.empty_like(source), []
    for _ in range(4):
        started = time.perf_counter()
        target.copy_(source)
        target[0].item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return COPIED_BYTES / min(seconds)
