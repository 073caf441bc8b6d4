"""Training on clips that do not fit into memory, against reading them and doing nothing with them.

    uv run python -m benchmarks.train_streamed STORE [--layer NAME] [--head NAME …]

Memory is a quarter of what the clips are, 16 evenly spaced frames a video. The store is opened anew
for each epoch and the system's pages of its shards are dropped, so that all is read from the disk.
*Read* is an epoch of batches that nobody looks at, by the reader that training uses, *train* one of
training steps in one thread, in turn. *Anonymous* is what the process holds beside the pages of
files, at most, above what it held before the epoch. The compact copy is made by `store repack`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from extract.compute.machine import keep_freed_memory
from features_store.store import Store
from features_store.verbs.options import RepackOptions
from features_store.verbs.reshape import repack_store
from train.data.ahead import BatchReader
from train.data.batch import Batch
from train.data.clips import Clips
from train.data.order import shuffled_batches
from train.data.windows import WindowPlan
from train.fitting.config import TrainConfig
from train.fitting.state import FitState, candidates
from train.fitting.tasks import SINGLE_LABEL
from train.heads import HeadChoice, head_class

BATCH, ROUNDS = 32, 3
HEADS = ("softmax-regression", "soft-attention")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--layer")
    parser.add_argument("--head", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    columns = "clips, GB | memory, GB | read, clips/s | train | train / read | anonymous, GB"
    print(f"| store | head | {columns} |")
    print("|" + "---|" * 8)
    with tempfile.TemporaryDirectory(dir=arguments.store.parent) as folder:
        compact = Path(folder) / "compact.cubes"
        repack_store(arguments.store, compact, RepackOptions(compact=True))
        for name, store in (("as it is", arguments.store), ("compact", compact)):
            for head in arguments.head or HEADS:
                print(f"| {name} | {head} | {measure(store, arguments.layer, head)} |", flush=True)
        shutil.rmtree(compact)


def measure(path: Path, layer: str | None, head: str) -> str:
    rates: dict[str, list[float]] = {"read": [], "train": []}
    num_bytes, held = 0, []
    for number in range(ROUNDS):
        for what in rates:
            drop_pages(path)
            with Store(path) as store:
                clips = quarter_in_memory(store, layer or store.header.layers[-1].name)
                trainer = Trainer(clips, head if what == "train" else None)
                rates[what].append(epoch(clips, number, trainer.step))
                clips.close()
            num_bytes = clips.num_bytes
            held.append(trainer.held)
    read, trained = (statistics.median(rates[what]) for what in ("read", "train"))
    return (
        f"{num_bytes / 1e9:.2f} | {num_bytes // 4 / 1e9:.2f} | {read:.0f} | {trained:.0f} | "
        f"{trained / read:.2f} | {max(held) / 1e9:.2f}"
    )


def quarter_in_memory(store: Store, layer: str) -> Clips:
    plan = {"windows": WindowPlan("even", 16), "layers": [layer]}
    num_bytes = Clips(store, store.ids, memory_bytes=0, **plan).num_bytes
    clips = Clips(store, store.ids, memory_bytes=num_bytes // 4, **plan)
    assert not clips.is_resident
    return clips


class Trainer:
    """Steps of a head, if there is one, and what the process holds most at their ends."""

    def __init__(self, clips: Clips, head: str | None) -> None:
        self._state = None
        if head is not None:
            choice, config = HeadChoice.parse(head), TrainConfig(batch_size=BATCH)
            candidate = candidates(head_class(choice.name), config)[0]
            self._state = FitState(
                lambda: choice.build(clips, 2), seed=0, candidate=candidate, config=config,
                device=clips.device,
            )  # fmt: skip
            self._state.begin([], num_steps=10**6)
            self._state.head.train()
        self._before = anonymous_bytes()
        self.held = 0

    def step(self, batch: Batch) -> None:
        if self._state is not None:
            targets = torch.arange(len(batch.mask)) % 2
            self._state.step(batch, targets, None, SINGLE_LABEL)
        self.held = max(self.held, anonymous_bytes() - self._before)


def epoch(clips: Clips, seed: int, work: Callable) -> float:
    """Return the clips per second of one epoch."""
    rng = np.random.default_rng(seed)
    order: Iterator[np.ndarray] = shuffled_batches(
        np.arange(len(clips)), clips.lengths, batch_size=BATCH, rng=rng
    )
    started = time.perf_counter()
    for _, batch in BatchReader(clips).read(order):
        work(batch)
    return len(clips) / (time.perf_counter() - started)


def drop_pages(store: Path) -> None:
    for path in (store / "shards").glob("*.h5"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not say RssAnon")


if __name__ == "__main__":
    main()
