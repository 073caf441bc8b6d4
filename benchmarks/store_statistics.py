"""Statistics of a store that is larger than the memory, against numpy and scikit-learn in memory.

uv run python -m benchmarks.store_statistics [--megabytes 200] [--channels 256]

A store of random cubes with a spectrum like that of features; mean and variance against float64,
components of `IncrementalPCA` at a budget of a quarter of the store against PCA of all cells,
the peak of the process's own memory, and time against reading the shards once.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from features_store.format.layout import LayerShape
from features_store.session import StoreSession
from features_store.store import Store
from pipelines.statistics.arrays import store_cubes
from pipelines.statistics.moments import channel_moments
from pipelines.statistics.pca import fit_components
from tests.stores import add_video, frames, header

NUM_COMPONENTS, GRID = 32, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=200.0, help="of the store")
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.store is not None:
        measure(given.store, given.budget)
        return
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "s.cubes"
        num_bytes = make(store, given.megabytes * 1e6, given.channels)
        budget = num_bytes // 4
        print(f"store {num_bytes / 1e6:.0f} MB in float16, budget {budget / 1e6:.0f} MB")
        # A process of its own, whose peak is that of the statistics alone.
        subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.store_statistics",
                "--store",
                store,
                "--budget",
                str(budget),
            ],
            check=True,
        )
        compare(store, budget)


def make(store: Path, num_bytes: float, channels: int) -> int:
    """Write shards of 50 videos; channels are mixed, with variances that fall as 1/k."""
    said = header(layers=(LayerShape("top", GRID, channels),), dtype="float16")
    rng = np.random.default_rng(0)
    mixing = np.linalg.qr(rng.normal(size=(channels, channels)))[0] / np.sqrt(
        np.arange(1, channels + 1)
    )
    per_video, video_bytes = 16, 16 * GRID * GRID * channels * 2
    number = int(num_bytes // video_bytes)
    with StoreSession(store, said, run_id="bench") as session:
        for first in range(0, number, 50):
            ids = [f"{i:05}" for i in range(first, min(first + 50, number))]
            with session.unit(rows=per_video * len(ids), video_ids=ids) as unit:
                for video_id in ids:
                    rows = frames(per_video, seed=1, store_header=said)
                    cubes = rng.normal(size=(per_video, GRID, GRID, channels)) @ mixing.T + 3
                    rows["cubes/center/top"] = cubes.astype(np.float16)
                    add_video(unit, video_id, rows)
    return number * video_bytes


def measure(store: Path, budget: int) -> None:
    """Print seconds, and the memory of this process."""
    cubes = store_cubes(store, block_bytes=min(2**24, budget // 8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started = time.perf_counter()
    channel_moments(cubes)
    moments = time.perf_counter() - started
    started = time.perf_counter()
    fit_components(cubes, NUM_COMPONENTS, memory_bytes=budget)
    components = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started = time.perf_counter()
    for shard in sorted((store / "shards").glob("*.h5")):
        shard.read_bytes()
    floor = time.perf_counter() - started
    ratio = f"{moments / floor:.1f} times"
    print(f"reading the shards {floor:.2f} s; mean and variance {moments:.2f} s ({ratio})")
    print(f"components {components:.2f} s")
    print(
        f"peak memory {peak / 1e6:.0f} MB, {(peak - before) / 1e6:.0f} MB above that of the "
        f"imports ({(peak - before) / budget:.2f} of the budget)"
    )


def compare(store: Path, budget: int) -> None:
    """Print how far the results are from those in memory."""
    with Store(store) as opened:
        cells = np.concatenate(
            [opened.cubes(i).reshape(-1, opened.header.layers[0].dim) for i in opened.ids]
        ).astype(np.float64)
    cubes = store_cubes(store)
    found = channel_moments(cubes)
    mean = np.abs(found.mean / cells.mean(0) - 1).max()
    variance = np.abs(found.variance / cells.var(0) - 1).max()
    print(f"largest relative error of the mean {mean:.1e}, of the variance {variance:.1e}")
    fitted = fit_components(cubes, NUM_COMPONENTS, memory_bytes=budget)
    whole = PCA(NUM_COMPONENTS, svd_solver="full").fit(cells)
    angle = np.degrees(subspace_angles(fitted.components.T, whole.components_.T)).max()
    print(f"largest angle between the subspaces of {NUM_COMPONENTS} components {angle:.3f} degrees")


if __name__ == "__main__":
    main()
