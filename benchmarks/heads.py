r"""Every head and yardstick on the same cubes: one table a store, resumable fit by fit.

    uv run python benchmarks/heads.py STORE… --out FOLDER [--weights FILE] [--among LABEL,LABEL,…]

Four folds by group, three seeds, one clip of 16 evenly spaced frames a video, on the rows of the
grid `heads` (train/protocol/grids/heads.toml). The stores want several layers, made for instance
with

    cubereel extract SOURCE --out STORE --backbone caffe:googlenet --weights FILE --fps 10 \
        --layer inception_3b@avg7 --layer inception_4e@avg7 \
        --layer inception_5a --layer inception_5b

A store is a process of its own and gets its share of the cores. Beside the heads stands
scikit-learn's logistic regression on mean cubes, its C chosen by the same validation videos.
`--among` prints what videos of some classes are taken for, all seeds together.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

FOLDS, SEEDS, GRID = 4, 3, "heads"
CONFUSED = ("mean-pool", "soft-attention", "m2a-head")
LOGISTIC_C = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="run folders, one per store")
    parser.add_argument("--weights", type=Path, help="of the backbone, for m2a-tail")
    parser.add_argument("--grid", default=GRID)
    parser.add_argument("--among", default="", help="labels whose confusion is shown")
    arguments = parser.parse_args()
    if len({store.stem for store in arguments.stores}) < len(arguments.stores):
        parser.error("two stores have the same name, and so would their run folders")
    threads = max(1, (os.cpu_count() or 1) // len(arguments.stores))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    started = time.monotonic()
    with ProcessPoolExecutor(len(arguments.stores), mp_context=get_context("spawn")) as pool:
        runs = [
            pool.submit(run, store, arguments.out / store.stem, arguments.weights, arguments.grid)
            for store in arguments.stores
        ]
        for future, store in zip(runs, arguments.stores, strict=True):
            folder, logistic = future.result()
            print_store(store, folder, logistic, arguments.among.split(","))
    print(f"\nthis call took {time.monotonic() - started:.0f} s with {threads} threads a store")


def run(store: Path, folder: Path, weights: Path | None, grid: str) -> tuple[Path, float]:
    """Fit what is not yet there; return the run folder and logistic regression's accuracy."""
    import logging

    from pipelines.training.train import train
    from train.protocol.grid import load_grid

    logging.basicConfig(level="INFO", format=f"{store.stem}: %(message)s")
    train(
        store,
        heads=load_grid(grid),
        folds=FOLDS,
        seeds=SEEDS,
        out=folder,
        device="cpu",
        weights=weights,
    )
    return folder, logistic_regression(store)


def logistic_regression(store: Path) -> float:
    """Return the balanced accuracy of scikit-learn on standardised mean cubes, all folds pooled."""
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from features_store.store import Store
    from train.fitting.config import TrainConfig
    from train.heads.blocks.masked import masked_mean
    from train.protocol.labelled import load_labelled, make_splits
    from train.scores.metrics import balanced_accuracy

    with Store(store) as opened:
        top = opened.header.layers[-1].name
        config = TrainConfig(layers=(top,))
        data = load_labelled(opened, config, torch.device("cpu")).data
        splits = make_splits(opened, data, folds=FOLDS, config=config)
        batches = data.clips.batches(range(len(data.clips)), batch_size=32)
        x = np.concatenate([masked_mean(b.frames, b.mask).numpy() for _, b in batches])
    y = data.labels

    def fitted(c: float, on: np.ndarray, asked: np.ndarray) -> np.ndarray:
        model = LogisticRegression(C=c, class_weight="balanced", max_iter=5000)
        return make_pipeline(StandardScaler(), model).fit(x[on], y[on]).predict(x[asked])

    predictions = np.zeros_like(y)
    for split in splits:
        ((inner, validation),) = split.inner
        scores = [
            balanced_accuracy(fitted(c, inner, validation), y[validation]) for c in LOGISTIC_C
        ]
        best = LOGISTIC_C[int(np.argmax(scores))]
        predictions[split.test] = fitted(best, split.fitting, split.test)
    return balanced_accuracy(predictions, y)


def print_store(store: Path, folder: Path, logistic: float, among: Sequence[str]) -> None:
    report = json.loads((folder / "results.json").read_bytes())
    print(f"\n## {store.stem}: {report['num_videos']} videos, {report['num_groups']} groups\n")
    print("| head | epochs | balanced | s.e. | to mean pool (95 %) | validation | params | s |")
    print("|---|---|---|---|---|---|---|---|")
    for row in report["heads"]:
        low, high = row["interval"]
        epochs = row["settings"].get("epochs", report["config"]["epochs"])
        print(
            f"| {row['head']} | {epochs} | {row['balanced_accuracy']:.3f} | "
            f"{row['standard_error']:.3f} | {row['difference']:+.3f} [{low:+.3f}, {high:+.3f}] | "
            f"{row['validation_score']:.3f} | {row['num_parameters']:,} | {row['seconds']:.0f} |"
        )
    chosen = report["chosen"]
    low, high = chosen["interval"]
    print(
        f"| *chosen by validation* | | {chosen['balanced_accuracy']:.3f} | "
        f"{chosen['standard_error']:.3f} | {chosen['difference']:+.3f} [{low:+.3f}, {high:+.3f}] "
        "| | | |"
    )
    print(f"| *logistic regression, mean cubes* | | {logistic:.3f} | | | | | |")
    print(f"\nchosen: {', '.join(chosen['head_of_fold'])}")
    if set(among) <= set(report["classes"]):
        for row in report["heads"]:
            if row["head"] in CONFUSED:
                print_confusion(row, report["classes"], among)


def print_confusion(row: dict, classes: list[str], among: Sequence[str]) -> None:
    """Print labels down, predictions across, of all seeds together."""
    places = [classes.index(name) for name in among]
    total = [
        [sum(seed["confusion"][i][j] for seed in row["seeds"]) for j in range(len(classes))]
        for i in places
    ]
    print(f"\n{row['head']}: labels down, predictions across, {len(row['seeds'])} seeds\n")
    print(f"| | {' | '.join(among)} | another class |")
    print("|---" * (len(among) + 2) + "|")
    for name, counts in zip(among, total, strict=True):
        inside = [counts[j] for j in places]
        shown = " | ".join(map(str, [*inside, sum(counts) - sum(inside)]))
        print(f"| {name} | {shown} |")


if __name__ == "__main__":
    main()
