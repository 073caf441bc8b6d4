"""Worker processes against one process: extraction, and fits beside those of an older checkout.

    python -m benchmarks.processes extract FOLDER --weights FILE --out WORK [--pairs N]
    python -m benchmarks.processes train STORE --out WORK [--older PYTHON STORE] [--pairs N]

Runs alternate, so that a machine that slows down slows all of them. Two processes are compared with
one and with `--older`: the Python of an older checkout, and the same features as a store that it
reads; it runs with its default threads. Every other run has one thread of torch a process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from features_store.store import Store

HEADS = ("mean-pool", "soft-attention", "attentive-probe", "hm-an")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("extract", "train"))
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--fps", default="4")
    parser.add_argument("--older", nargs=2, type=Path)
    parser.add_argument("--epochs", default="15")
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (extract if arguments.what == "extract" else train)(arguments)


def run(python: Path | str, *arguments: object, **environment: str) -> None:
    command = [
        str(python),
        "-P",
        "-c",
        "from pipelines.cli import main; main()",
        *map(str, arguments),
    ]
    subprocess.run(command, check=True, env={**os.environ, **environment}, capture_output=True)


def extract(arguments: argparse.Namespace) -> None:
    backbone = ("--backbone", "caffe:googlenet", "--weights", arguments.weights)
    options = (*backbone, "--fps", arguments.fps, "--compile", "off", "--device", "cpu")
    rates: dict[int, list[float]] = {1: [], 2: []}
    stores = {number: arguments.out / f"{number}.cubes" for number in rates}
    for _ in range(arguments.pairs):
        for number, store in stores.items():
            shutil.rmtree(store, ignore_errors=True)
            run(
                sys.executable, "extract", arguments.source, "--out", store, *options,
                "--processes", number, **ONE_THREAD,
            )  # fmt: skip
            (report,) = (json.loads(path.read_bytes()) for path in (store / "runs").glob("*.json"))
            rates[number].append(report["num_frames"] / report["extracting_seconds"])
            print(f"{number} processes: {rates[number][-1]:.2f} frames/s", flush=True)
    print(f"frames/s of two processes to those of one: {_ratio(rates[2], rates[1])}")
    print(f"rows equal to the byte: {_count_equal(*stores.values())} videos")


def _count_equal(first: Path, second: Path) -> int:
    """Return of how many videos all rows are equal; an error for one of which they are not."""
    with Store(first) as a, Store(second) as b:
        assert a.ids == b.ids
        for video_id in a.ids:
            for array in a.header.arrays:
                rows = [each.read(video_id, array.path) for each in (a, b)]
                assert rows[0].tobytes() == rows[1].tobytes(), (video_id, array.path)
        return len(a.ids)


def train(arguments: argparse.Namespace) -> None:
    """Train all heads by one command; of the older checkout too, if there is one."""
    modes = {"two processes": (sys.executable, arguments.source, ("--processes", 2))}
    if arguments.older:
        modes["older"] = (arguments.older[0], arguments.older[1], ())
    else:
        modes["one process"] = (sys.executable, arguments.source, ("--processes", 1))
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in modes}
    options = ("--folds", 4, "--seeds", 2, "--device", "cpu", "--epochs", arguments.epochs)
    options += tuple(word for head in HEADS for word in ("--head", head))
    for pair in range(arguments.pairs):
        for name, (python, store, more) in modes.items():
            out = arguments.out / f"{name.replace(' ', '-')}-{pair}"
            shutil.rmtree(out, ignore_errors=True)
            threads = {} if name == "older" else ONE_THREAD
            started = time.time()
            run(python, "train", store, "--out", out, *options, *more, **threads)
            for head, took in _walls(out, started).items():
                seconds[name].setdefault(head, []).append(took)
                print(f"{head}, {name}: {took:.1f} s", flush=True)
    other = next(name for name in modes if name != "two processes")
    for head in seconds[other]:
        print(f"{head}: {_ratio(seconds[other][head], seconds['two processes'][head])}")
    if other == "one process":
        _require_equal(arguments.out / "one-process-0", arguments.out / "two-processes-0")
        print("results of one process and of two are equal to the last digit")


def _walls(out: Path, started: float) -> dict[str, float]:
    """Return the seconds in which records of each head came, one after the other, and all of them.

    The first head has the start of the program in its seconds.
    """
    records = sorted((out / "fits").rglob("fold*.json"), key=lambda path: path.stat().st_mtime)
    walls, last = dict.fromkeys((*HEADS, "in all"), 0.0), started
    for path in records:
        walls[path.parent.name] += path.stat().st_mtime - last
        last = path.stat().st_mtime
    walls["in all"] = time.time() - started
    return walls


def _ratio(before: list[float], after: list[float]) -> str:
    """Return how many times as long it took before: the median of the pairs, and their range."""
    ratios = [a / b for a, b in zip(before, after, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _require_equal(one: Path, two: Path) -> None:
    tables = [json.loads((run / "results.json").read_bytes())["heads"] for run in (one, two)]
    for row in tables[0] + tables[1]:
        del row["seconds"]
    assert tables[0] == tables[1]
    assert (one / "predictions.csv").read_bytes() == (two / "predictions.csv").read_bytes()


if __name__ == "__main__":
    main()
