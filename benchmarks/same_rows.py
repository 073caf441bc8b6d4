"""The same videos by every executor: are all rows the same, and how long does each take?

uv run python -m benchmarks.same_rows SOURCE [--weights FILE] [--videos 60] [--8bit]

Local processes, Dask, four shares of a plan in any order, and workers that join late. Each worker
computes in one thread of torch, so that seconds compare; starting processes is counted in.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features_store.store import Store
from features_store.verbs.verify import verify_store

CUBEREEL = [sys.executable, "-c", "from pipelines.cli import main; main()"]


@dataclass(frozen=True)
class Runner:
    """Runs extraction into a new store.

    Attributes:
        flags: of all runs.
    """

    source: Path
    flags: list[str]

    def start(self, store: Path, verb: str, *more: str, threads: int) -> subprocess.Popen[bytes]:
        command = [*CUBEREEL, verb, str(self.source), "--out", str(store), *self.flags, *more]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def run(self, store: Path, verb: str, *more: str, threads: int = 1) -> None:
        code = self.start(store, verb, *more, threads=threads).wait()
        if code not in (0, 4):
            sys.exit(f"{verb} {' '.join(more)} ended with {code}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--backbone", default="caffe:googlenet")
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--8bit", dest="eight_bit", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        flags = [
            "--backbone",
            given.backbone,
            "--fps",
            "4",
            "--precision",
            "fp32",
            "--device",
            "cpu",
        ]
        flags += ["--compile", "off", "--dtype", "8bit" if given.eight_bit else "float16"]
        flags += [] if given.weights is None else ["--weights", str(given.weights)]
        runner = Runner(part(given.source, given.videos, Path(folder)), flags)
        first: Path | None = None
        for name, way in WAYS.items():
            store = Path(folder) / f"{name}.cubes"
            started = time.monotonic()
            way(runner, store)
            seconds = time.monotonic() - started
            first = first or store
            print(f"{name:<28} {seconds:6.1f} s  {compared(first, store)}", flush=True)


def part(source: Path, number: int, folder: Path) -> Path:
    """Return a list of some of the videos, evenly drawn."""
    videos = sorted(source.rglob("*.mp4"))
    chosen = [videos[i * len(videos) // number] for i in range(min(number, len(videos)))]
    listed = folder / "videos.txt"
    listed.write_text("\n".join(str(path.absolute()) for path in chosen) + "\n")
    return listed


def _one(runner: Runner, store: Path) -> None:
    runner.run(store, "extract")


def _one_of_two_threads(runner: Runner, store: Path) -> None:
    runner.run(store, "extract", threads=2)


def _two(runner: Runner, store: Path) -> None:
    runner.run(store, "extract", "--processes", "2")


def _dask(number: int) -> Callable[[Runner, Path], None]:
    def way(runner: Runner, store: Path) -> None:
        runner.run(store, "extract", "--cluster", "dask", "--processes", str(number))

    return way


def _shares(runner: Runner, store: Path) -> None:
    runner.run(store, "plan", "--calibrate", "2")
    for number in (2, 0, 3, 1):
        runner.run(store, "extract", "--unit", f"{number}/4")


def _late(runner: Runner, store: Path) -> None:
    first = runner.start(store, "extract", "--processes", "2", threads=1)
    while not list((store / "units").glob("*.jsonl")):
        time.sleep(0.1)
        if first.poll() is not None:
            sys.exit("extract ended before it began")
    runner.run(store, "extract", "--join")
    first.wait()


WAYS: dict[str, Callable[[Runner, Path], None]] = {
    "one process": _one,
    "one process, two threads": _one_of_two_threads,
    "two processes": _two,
    "dask, one worker": _dask(1),
    "dask, two workers": _dask(2),
    "dask, four workers": _dask(4),
    "four shares, one by one": _shares,
    "two, and one that joins late": _late,
}


def compared(first: Path, store: Path) -> str:
    """Say whether two stores hold the same rows."""
    problems = verify_store(store, full=True).problems
    if problems:
        return f"verify --full: {problems[0]}"
    differing, worst = 0, 1.0
    with Store(first) as ours, Store(store) as theirs:
        if ours.ids != theirs.ids:
            return f"{len(theirs.ids)} videos, not {len(ours.ids)}"
        lying = [i for name in theirs.index.shards for i in theirs.index.of_shard(name)]
        for video_id in ours.ids:
            pairs = [
                [each.read(video_id, array.path) for each in (ours, theirs)]
                for array in ours.header.arrays
            ]
            differing += not all(np.array_equal(a, b) for a, b in pairs)
            a, b = (each.cubes(video_id).astype(np.float64) for each in (ours, theirs))
            a, b = (each.reshape(-1, each.shape[-1]) for each in (a, b))
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            cosines = (a * b).sum(1)[norms > 0] / norms[norms > 0]
            worst = min(worst, float(cosines.min(initial=1.0)))
        twice = len(lying) - len(set(lying))
        return (
            f"{len(ours.ids)} videos, {differing} differ, worst cosine {worst:.7f}, {twice} twice, "
            f"{len(theirs.index.shards)} shards, verify --full clean"
        )


if __name__ == "__main__":
    main()
