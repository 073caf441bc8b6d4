r"""Every head and yardstick on the same cubes: one table a store, resumable fit by fit.

    uv run python benchmarks/heads.py STORE… --out FOLDER [--weights FILE] [--among LABEL,LABEL,…]

Four folds by group, three seeds, one clip of 16 evenly spaced frames a video, on the rows of the
table `heads` (train/protocol/tables/heads.toml): the same core-seconds for every row, three
learning rates, epochs chosen by validation. The stores want several layers, made for instance
with

    cubereel extract SOURCE --out STORE --backbone caffe:googlenet --weights FILE --fps 10 \
        --layer inception_3b@avg7 --layer inception_4e@avg7 \
        --layer inception_5a --layer inception_5b

`--table motion` is the heads of the papers with and without motion, on two layers.

Fits run side by side on all cores. Differences are to mean pooling, and to mean pooling with motion
on the same layers, if the table has it. Beside the heads stands scikit-learn's logistic regression
on mean cubes, its C chosen by the same validation videos.
`--among` prints what videos of some classes are taken for, all seeds together.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from pipelines.cli.show import bracketed, signed

FOLDS, SEEDS, TABLE = 4, 3, "heads"
WITH_MOTION = "mean-pool:motion="
CONFUSED = ("mean-pool", "soft-attention", "m2a-head")
LOGISTIC_C = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="run folders, one per store")
    parser.add_argument("--weights", type=Path, help="of the backbone, for m2a-tail")
    parser.add_argument("--table", default=TABLE)
    parser.add_argument("--budget", type=float, help="core-seconds a row, else the table's")
    parser.add_argument("--among", default="", help="labels whose confusion is shown")
    arguments = parser.parse_args()
    if len({store.stem for store in arguments.stores}) < len(arguments.stores):
        parser.error("two stores have the same name, and so would their run folders")
    started = time.monotonic()
    for store in arguments.stores:
        folder = arguments.out / store.stem
        run(store, folder, arguments.weights, arguments.table, arguments.budget)
        print_store(store, folder, logistic_regression(store), arguments.among.split(","))
    print(f"\nthis call took {time.monotonic() - started:.0f} s on {os.cpu_count()} cores")


def run(store: Path, folder: Path, weights: Path | None, table: str, budget: float | None) -> None:
    """Fit what is not yet there."""
    import logging

    from pipelines.training.train import train
    from train.fitting.config import TrainConfig
    from train.protocol.table import load_table

    logging.basicConfig(level="INFO", format=f"{store.stem}: %(message)s")
    train(
        store,
        heads=load_table(table),
        folds=FOLDS,
        seeds=SEEDS,
        out=folder,
        device="cpu",
        config=TrainConfig() if budget is None else TrainConfig(budget=budget),
        weights=weights,
    )


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
    second = to_mean_pool_with_motion(folder, report["heads"])
    print(f"\n## {store.stem}: {report['num_videos']} videos, {report['num_groups']} groups\n")
    print(
        "| head | epochs | balanced | s.e. | to mean pool (95 %) | all (95 %) | to mean pool, "
        "motion | validation | params | s |"
    )
    print("|" + "---|" * 10)
    for row in report["heads"]:
        epochs = [selection["epochs"] for selection in row["selections"]]
        print(
            f"| {row['head']} | {min(epochs)} to {max(epochs)} of {row['settings']['epochs']} | "
            f"{row['balanced_accuracy']:.3f} | {row['standard_error']:.3f} | "
            f"{signed(row['difference'], row['interval'])} | {bracketed(row['band'])} | "
            f"{second[row['head']]} | {row['validation_score']:.3f} | "
            f"{row['num_parameters']:,} | {row['seconds']:.0f} |"
        )
    for name, key in (("chosen by validation", "chosen"), ("three, by validation", "ensemble")):
        found = report[key]
        print(
            f"| *{name}* | | {found['balanced_accuracy']:.3f} | {found['standard_error']:.3f} | "
            f"{signed(found['difference'], found['interval'])} | | | | | |"
        )
    print(f"| *logistic regression, mean cubes* | | {logistic:.3f} | | | | | | | |")
    chosen = report["chosen"]
    print(f"\nchosen: {', '.join(chosen['head_of_fold'])}")
    if set(among) <= set(report["classes"]):
        for row in report["heads"]:
            if row["head"] in CONFUSED:
                print_confusion(row, report["classes"], among)


def to_mean_pool_with_motion(folder: Path, rows: Sequence[dict]) -> dict[str, str]:
    """Return every head's difference to mean pooling with motion, of its layers where there is one.

    Several are ordered as in the table, and the last counts.
    """
    from pipelines.training.compare import compare

    references = [row for row in rows if row["head"].startswith(WITH_MOTION)]
    found = {}
    for row in rows:
        alike = [each for each in references if each["layers"] == row["layers"]]
        second = (alike or references)[-1]["head"]
        (each,) = compare(folder, folder, head_a=second, head_b=row["head"]).heads
        found[row["head"]] = signed(each.difference, each.interval)
    return found


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
