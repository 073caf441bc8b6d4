"""Statistics over a store that is larger than memory: how exact, how much memory, how fast.

    uv run python -m benchmarks.store_statistics [--out FOLDER] [--memory SIZE] [--times N]
        [--dim D] [--pca N] [--pca-of cells|frames]

Makes a store of float16 cubes whose variance falls over directions as that of features does, N
times as large as the memory that `cubereel store statistics` may take. Compares mean and variance
with float64 sums over all cubes in order, the components with those of the whole covariance matrix
in float64 (of all rows at once, which is a PCA in memory), and the seconds with reading the files
of the shards plainly. The verb runs in a process of its own, whose memory is looked at a hundred
times a second.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import scipy.linalg

from benchmarks.store_speed import BATCH, HEADER, RECORD, VIDEO_FRAMES
from features_store.format.layout import LayerShape, cube_path
from features_store.session import StoreSession
from features_store.store import Store
from pipelines.statistics.memory import parse_memory
from pipelines.statistics.result import StoreStatistics, load_statistics

COMMAND = (sys.executable, "-c", "from pipelines.cli import main; main()", "store", "statistics")
UNIT_VIDEOS = 20
NUM_DIRECTIONS = 200  # besides noise in all of them
READ_BYTES = 2**24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a folder on the disk to be measured")
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--times", type=float, default=4, help="bytes of the store to the memory")
    parser.add_argument("--dim", type=int, default=256, help="channels of a cell")
    parser.add_argument("--pca", type=int, default=32)
    parser.add_argument("--pca-of", choices=("cells", "frames"), default="cells")
    arguments = parser.parse_args()
    memory_bytes = parse_memory(arguments.memory)
    with tempfile.TemporaryDirectory(dir=arguments.out) as name:
        folder = Path(name)
        make_store(folder / "store", int(arguments.times * memory_bytes), arguments.dim)
        memory = ("--memory", arguments.memory)
        floor, num_bytes = read_plainly(folder / "store")
        print(f"shards of {num_bytes / 1e9:.2f} GB, --memory {arguments.memory}")
        print(f"floor: files read plainly in {floor:.2f} s, {num_bytes / floor / 1e6:.0f} MB/s")
        ways = {
            "mean and variance": (),
            f"and --pca {arguments.pca} of {arguments.pca_of}": (
                *("--pca", str(arguments.pca), "--pca-of", arguments.pca_of),
            ),
        }
        for way, flags in ways.items():
            out = folder / "found.safetensors"
            seconds, peak = run_verb(folder / "store", "--out", out, *memory, *flags)
            print(
                f"{way}: {seconds:.1f} s, {num_bytes / seconds / 1e6:.0f} MB/s, "
                f"{floor / seconds:.3f} of the floor; peak RSS {peak / 1e6:.0f} MB, "
                f"{peak / memory_bytes:.2f} of the budget",
                flush=True,
            )
        compare(folder / "store", load_statistics(out), arguments.pca, arguments.pca_of)


def make_store(path: Path, num_bytes: int, dim: int) -> None:
    """Write cubes of falling variance, positive as they are behind a ReLU, in several shards."""
    rng = np.random.default_rng(0)
    layer = LayerShape("top", 7, dim)
    header, cells = replace(HEADER, layers=(layer,)), layer.grid_size**2
    directions = np.linalg.qr(rng.normal(size=(dim, min(dim, NUM_DIRECTIONS))))[0].T
    num_directions = len(directions)
    strengths = 8 / (1 + np.arange(num_directions)) ** 0.7
    mixing = (directions * strengths[:, None]).astype(np.float32)
    num_videos = max(2, num_bytes // (VIDEO_FRAMES * cells * dim * 2))
    ids = [f"v{i:06}" for i in range(num_videos)]
    with StoreSession(path, header, run_id="bench") as session:
        for first in range(0, num_videos, UNIT_VIDEOS):
            chosen = ids[first : first + UNIT_VIDEOS]
            with session.unit(rows=len(chosen) * VIDEO_FRAMES, video_ids=chosen) as unit:
                for video_id in chosen:
                    # Each video is somewhere else, as its scene is.
                    middle = rng.normal(size=num_directions).astype(np.float32)
                    for start in range(0, VIDEO_FRAMES, BATCH):
                        index = np.arange(start, min(start + BATCH, VIDEO_FRAMES))
                        shape = (len(index) * cells, num_directions)
                        values = (middle + rng.standard_normal(shape, np.float32)) @ mixing
                        values += 0.1 * rng.standard_normal(values.shape, np.float32) + 2
                        rows = values.reshape(len(index), *layer.cube_shape).astype(np.float16)
                        unit.write_rows({
                            cube_path("center", layer.name): rows,
                            "pts_seconds": index / 10, "frame_index": index,
                        })  # fmt: skip
                    unit.commit(id=video_id, **RECORD)


def read_plainly(store: Path) -> tuple[float, int]:
    """Return seconds and bytes of reading every shard into one buffer; the better of two times."""
    buffer, seconds, num_bytes = bytearray(READ_BYTES), math.inf, 0
    for _ in range(2):
        started, num_bytes = time.perf_counter(), 0
        for path in sorted((store / "shards").glob("*.h5")):
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    num_bytes += count
        seconds = min(seconds, time.perf_counter() - started)
    return seconds, num_bytes


def run_verb(store: Path, *flags: object) -> tuple[float, int]:
    """Return seconds, start-up included, and the most resident bytes of the process."""
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(
        [*COMMAND, str(store), *map(str, flags), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.01)
        said, problem = process.communicate()
        if process.returncode:
            sys.exit(problem)
    assert json.loads(said)["num_frames"]
    return time.perf_counter() - started, peak


def compare(path: Path, found: StoreStatistics, num_components: int, pca_of: str) -> None:
    """Print how far the results are from float64 sums over all cubes."""
    assert found.pca is not None
    dim = len(found.mean)
    with Store(path) as store:
        count, total = 0, np.zeros(dim)
        for video_id in store.ids:
            cells = store.cubes(video_id).astype(np.float64).reshape(-1, dim)
            count, total = count + len(cells), total + cells.sum(0)
        mean, square, rows = total / count, np.zeros(dim), 0
        covariance = np.zeros((dim, dim))
        for video_id in store.ids:
            video = store.cubes(video_id).astype(np.float64) - mean
            square += (video**2).sum((0, 1, 2))
            vectors = video.reshape(-1, dim) if pca_of == "cells" else video.mean((1, 2))
            covariance, rows = covariance + vectors.T @ vectors, rows + len(vectors)
    variance = square / count
    print(f"mean: largest relative error {(abs(found.mean - mean) / abs(mean)).max():.1e}")
    print(f"variance: largest relative error {(abs(found.variance / variance - 1)).max():.1e}")
    values, vectors = scipy.linalg.eigh(covariance / (rows - 1))
    exact = vectors[:, ::-1][:, :num_components]
    angles = scipy.linalg.subspace_angles(exact, found.pca.components.T)
    print(f"components: largest angle between the subspaces {angles.max():.2e} rad")
    ratio = found.pca.explained_variance.sum() / values[::-1][:num_components].sum()
    print(f"variance that they hold, to that of the exact ones: {ratio:.8f}")


if __name__ == "__main__":
    main()
