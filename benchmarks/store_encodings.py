"""What each encoding of a store costs and keeps: size, read speed, cosine, balanced accuracy.

    uv run python benchmarks/store_encodings.py STORE… [--out FOLDER] [--no-accuracy]

Every encoding is repacked from the float16 store given. Sizes are of the cube datasets alone, as
they lie in the file. Windows are of 16 frames, read on one core from the page cache. Accuracy is
cross-validated over groups (4 folds, 3 seeds, 10 epochs, one clip of 16 even frames) with its
standard error over groups; encodings that hold the same values are trained once.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import get_args

import h5py
import numpy as np

from features_store.format.encodings import Compression, Dtype
from features_store.store import Store
from features_store.verbs.diff import StoreDiff, diff_stores
from features_store.verbs.reshape import RepackOptions, repack_store

ENCODINGS = [
    (dtype, compression) for dtype in get_args(Dtype) for compression in get_args(Compression)
]
HEADS = ("mean-pool:motion=cubes", "avg-lstm")
WINDOW, READS, REPEATS = 16, 300, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, help="where the repacked stores stand meanwhile")
    parser.add_argument("--no-accuracy", action="store_true")
    arguments = parser.parse_args()
    for path in arguments.stores:
        folder = Path(tempfile.mkdtemp(dir=arguments.out))
        try:
            measure(path, folder, with_accuracy=not arguments.no_accuracy)
        finally:
            shutil.rmtree(folder)


def measure(path: Path, folder: Path, *, with_accuracy: bool) -> None:
    with Store(path) as original:
        print(f"\n{original!r}")
        fp16_bytes = original.num_frames * sum(a.row_bytes for a in cube_arrays(original))
    titles = f"{'bytes/frame':>12}{'of fp16':>9}{'MB/s':>7}{'worst cosine':>14}{'mean cosine':>13}"
    print(f"{'encoding':<15}{titles}  " + "  ".join(f"{head:>23}" for head in HEADS))
    trained: dict[str, list[str]] = {}
    for dtype, compression in ENCODINGS:
        out = folder / f"{dtype}-{compression}"
        repack_store(path, out, RepackOptions(dtype=dtype, compression=compression))
        with Store(path) as a, Store(out) as b:
            difference = diff_stores(a, b)
            num_bytes = stored_bytes(b)
            speed = windows_per_second(b) * WINDOW * fp16_bytes / a.num_frames / 1e6
            frames = b.num_frames
        values = "same" if difference.identical else dtype
        if with_accuracy and values not in trained:
            trained[values] = accuracies(out, folder / f"run-{values}")
        worst, mean = cosines(difference)
        print(
            f"{dtype + ' ' + compression:<15}{num_bytes / frames:12.0f}"
            f"{num_bytes / fp16_bytes:9.3f}{speed:7.0f}{worst:14.6f}{mean:13.6f}  "
            + "  ".join(f"{text:>23}" for text in trained.get(values, [])),
            flush=True,
        )
        shutil.rmtree(out)


def cube_arrays(store: Store) -> list:
    return [array for array in store.header.arrays if array.axes]


def stored_bytes(store: Store) -> int:
    """Return the bytes of all cube datasets as they lie in the files."""
    total = 0
    for shard in store.index.shards:
        with h5py.File(store.path / "shards" / shard, "r", locking=False) as file:
            total += sum(file[a.path].id.get_storage_size() for a in cube_arrays(store))
    return total


def windows_per_second(store: Store) -> float:
    """Return random windows read a second: the median of several rounds."""
    ids = [i for i in store.ids if store.num_frames_of(i) >= WINDOW]
    rng = np.random.default_rng(0)
    chosen = [ids[i] for i in rng.integers(len(ids), size=READS)]
    starts = [int(rng.integers(store.num_frames_of(i) - WINDOW + 1)) for i in chosen]
    rates = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        for video_id, start in zip(chosen, starts, strict=True):
            store.cubes(video_id, start=start, stop=start + WINDOW)
        rates.append(READS / (time.perf_counter() - started))
    return float(np.median(rates[1:]))  # the first round fills the page cache


def cosines(difference: StoreDiff) -> tuple[float, float]:
    worst = min(video.worst_cosine for video in difference.videos)
    frames = np.array([video.num_frames for video in difference.videos])
    means = np.array([video.mean_cosine for video in difference.videos])
    return worst, float((frames * means).sum() / frames.sum())


def accuracies(store: Path, run: Path) -> list[str]:
    from pipelines.training.train import train
    from train.fitting.config import TrainConfig

    report = train(
        store, heads=HEADS, folds=4, seeds=3, out=run, device="cpu", config=TrainConfig(epochs=10)
    )
    return [f"{row.balanced_accuracy:.3f} ± {row.standard_error:.3f}" for row in report.heads]


if __name__ == "__main__":
    main()
