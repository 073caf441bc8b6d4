"""Training steps of every head, against an older checkout and against a grid of fits, a core each.

    uv run python -m benchmarks.train_speed --older CHECKOUT [--head NAME …] [--pairs 3]

CHECKOUT is a folder made by `git archive aae2476 | tar x`; it runs with the packages of here. Both
fit the same resident clips (16 frames, 7×7×1024 in float16, frame differences beside them) by their
own `fit`, batch 32, one thread, in turn; epochs after the first two count. A grid is 12 fits: two
processes of one thread, each with six that share a read, against one process of the older checkout
with two threads, which does one fit after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np

HEADS = (
    "soft-attention", "soft-attention:attention=content", "attentive-probe", "hm-an",
    "temporal-shift", "m2a-head", "self-attention-pool", "pyramid-attention", "non-local",
    "softmax-regression", "saliency-convlstm", "mean-pool", "max-lstm", "transformer",
)  # fmt: skip
NUM_CLIPS, STEPS, GRID, DIM, BATCH = 128, 16, 7, 1024, 32
GRID_HEAD, GRID_FITS = "soft-attention", 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--older", type=Path, required=True)
    parser.add_argument("--head", action="append", default=[])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--measure", help="used by the script itself")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(**json.loads(arguments.measure))))
        return
    here = Path(__file__).parents[1]
    print("| head | before, clips/s a core | now | ratio |\n|---|---|---|---|")
    for head in arguments.head or HEADS:
        pairs = [
            [run([place], head=head, threads=1) for place in (arguments.older, here)]
            for _ in range(arguments.pairs)
        ]
        print(line(head, pairs), flush=True)
    both = [here, here]
    pairs = [
        [
            run([arguments.older], head=GRID_HEAD, threads=2),
            run(both, head=GRID_HEAD, threads=1, together=GRID_FITS // 2),
        ]
        for _ in range(arguments.pairs)
    ]
    print("\n| grid, two cores | before, clips/s | now | ratio |\n|---|---|---|---|")
    print(line(f"{GRID_FITS} fits of {GRID_HEAD}", pairs))


def line(name: str, pairs: list[list[float]]) -> str:
    before, now = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(b / a for a, b in pairs)
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return f"| {name} | {before:.0f} | {now:.0f} | {spread} |"


def run(places: list[Path], *, threads: int, **said: object) -> float:
    """Return the clips per second of all processes, which run side by side."""
    processes = []
    for place in places:
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads),
            "PYTHONPATH": str(place),
        }  # fmt: skip
        command = [sys.executable, __file__, "--older", ".", "--measure", json.dumps(said)]
        processes.append(
            subprocess.Popen(command, cwd=place, env=environment, text=True, stdout=subprocess.PIPE)
        )
    found = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    return sum(found)


def measure(head: str, together: int = 1, seconds: float = 6.0) -> float:
    """Return the clips per second, all fits counted, of epochs after the first."""
    names = SimpleNamespace(**of_this_checkout())
    names.keep_freed_memory()
    clips, labels = resident(names), np.arange(NUM_CLIPS) % 2
    epochs = 1
    while True:
        config = names.TrainConfig(epochs=2 + epochs, batch_size=BATCH)
        started, times = time.perf_counter(), []
        fitted(names, head, clips, labels, config, together, times)
        if time.perf_counter() - started > seconds:
            break
        epochs *= 3
    # The first may be a pass for statistics, or one that finds no memory at hand.
    took = times[-1] - times[1]
    return together * NUM_CLIPS * (len(times) - 2) / took


def of_this_checkout() -> dict[str, object]:
    """Return what is used of the checkout that is first on the path, whatever its layout."""
    new = {
        "extract.compute.machine": ["keep_freed_memory"],
        "train.data.clips": ["Clip", "Clips"],
        "train.data.windows": ["WindowPlan"],
        "train.fitting.condensed": ["condensed_for"],
        "train.fitting.config": ["TrainConfig"],
        "train.fitting.loop": ["fit", "fit_together"],
        "train.fitting.state": ["Candidate", "FitState"],
        "train.heads": ["HeadChoice"],
    }
    old = {
        "extract.allocator": ["keep_freed_memory"],
        "train.clips": ["Clip", "Clips"],
        "train.windows": ["WindowPlan"],
        "train.config": ["TrainConfig"],
        "train.fit": ["Candidate", "fit"],
        "train.protocol": ["HeadChoice"],
    }
    is_old = find_spec("train.fit") is not None
    found = {
        name: getattr(import_module(module), name)
        for module, names in (old if is_old else new).items()
        for name in names
    }
    if is_old:
        found["condensed_for"] = found["Clips"].condensed_for
    return found


def fitted(names, head, clips, labels, config, together, times) -> None:
    """Fit by this checkout's own loop; `times` gets the start of every epoch."""
    import torch

    choice, train = names.HeadChoice.parse(head), np.arange(NUM_CLIPS)
    candidate = names.Candidate(1e-3, 0.01)
    built = choice.build(clips, 2)
    with torch.no_grad():
        watched = Watched(names.condensed_for(clips, built, batch_size=BATCH), times)
    if together == 1:
        names.fit(built, watched, labels, train=train, candidate=candidate, config=config, seed=0)
        return
    states = [
        names.FitState(
            lambda: choice.build(clips, 2), seed=seed, candidate=candidate, config=config,
            device=clips.device,
        )
        for seed in range(together)
    ]  # fmt: skip
    names.fit_together(states, watched, labels, train=train, config=config)


class Watched:
    """Clips that take down when the first batch of each epoch is asked for."""

    def __init__(self, clips, times: list[float]) -> None:
        self._clips, self._times, self._left = clips, times, 0

    def __getattr__(self, name: str):
        return getattr(self._clips, name)

    def batch(self, positions, **said):
        if self._left == 0:
            self._times.append(time.perf_counter())
            self._left = -(-NUM_CLIPS // BATCH)
        self._left -= 1
        return self._clips.batch(positions, **said)

    def batches(self, positions, *, batch_size: int):
        for start in range(0, len(positions), batch_size):
            chosen = positions[start : start + batch_size]
            yield chosen, self.batch(chosen)


def resident(names):
    """Return clips in memory, of no store."""
    import torch

    layers = {
        "low": SimpleNamespace(name="low", grid_size=GRID, dim=480),
        "top": SimpleNamespace(name="top", grid_size=GRID, dim=DIM),
    }
    clips = names.Clips.__new__(names.Clips)
    clips.store = SimpleNamespace(header=SimpleNamespace(has_diffs=True, layer=layers.__getitem__))
    clips.video_ids = [str(i) for i in range(NUM_CLIPS)]
    clips.windows = names.WindowPlan("even", STEPS)
    clips.layers, clips.device = ["top"], torch.device("cpu")
    clips.clips = [names.Clip(i, np.arange(STEPS)) for i in range(NUM_CLIPS)]
    generator = torch.Generator().manual_seed(0)
    clips._arrays = clips.arrays = [
        SimpleNamespace(row_shape=shape) for shape in ((GRID, GRID, DIM), (14, 14, 3))
    ]
    clips._cached = [
        torch.randn(NUM_CLIPS, STEPS, GRID, GRID, DIM, generator=generator).relu().half(),
        torch.randn(NUM_CLIPS, STEPS, 14, 14, 3, generator=generator).half(),
    ]
    return clips


if __name__ == "__main__":
    main()
