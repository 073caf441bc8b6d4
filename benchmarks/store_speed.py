"""How fast a store is written and read: ours, the floor, and the plain way, in one run.

    uv run python benchmarks/store_speed.py [--store STORE] [--out FOLDER] [--gigabytes G]

The floor of writing is the same bytes to a plain file and fsync; that of reading is `np.memmap` of
the same bytes, copied. The plain way is h5py with `chunks=True`, one file, no checksums. Without
--store, cubes are random and four fifths zero; with it they are those of a real store. All reads
are from the page cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from features_store.format.layout import LayerShape, cube_path
from features_store.metadata import StoreHeader
from features_store.session import StoreSession
from features_store.sources import new_source
from features_store.spec import Preprocessing, Sampling, Spec
from features_store.store import Store
from features_store.verbs.reshape import RepackOptions, repack_store

VIDEO_FRAMES, BATCH, WINDOW, REPEATS = 90, 32, 16, 5
LAYER = LayerShape("inception5b", 7, 1024)
PREPROCESSING = Preprocessing(
    (224, 224), 256, "crop", "bilinear", (0.5,) * 3, (0.25,) * 3, 255.0, "rgb"
)
SPEC = Spec("bench:random", "0" * 64, PREPROCESSING, Sampling("fps", "10"), "none", "fp32", "cpu")
HEADER = StoreHeader(SPEC, (LAYER,), sources=(new_source("/"),), has_diffs=False)
RECORD = {
    "media_sha256": "0" * 64, "media_bytes": 1, "media_mtime_ns": 1, "source_fps": 25.0,
    "duration_seconds": 9.0, "num_frames": 225, "width": 320, "height": 240, "rotation": 0,
    "crop": (0.0, 0.0, 320.0, 240.0), "colour_matrix": "bt601", "colour_range": "mpeg",
    "status": "ok",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path)
    parser.add_argument("--out", type=Path, help="a folder on the disk to be measured")
    parser.add_argument("--gigabytes", type=float, default=0.7)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.out))
    try:
        measure(folder, arguments.store, int(arguments.gigabytes * 1e9))
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, store: Path | None, num_bytes: int) -> None:
    num_videos = max(2, num_bytes // (VIDEO_FRAMES * 49 * 1024 * 2))
    pool = frames_of(store) if store else random_frames()
    videos = [
        pool[(i * 37 + np.arange(VIDEO_FRAMES)) % len(pool)] for i in range(min(num_videos, 20))
    ]
    data = [videos[i % len(videos)] for i in range(num_videos)]
    size = sum(video.nbytes for video in data)
    print(f"{num_videos} videos of {VIDEO_FRAMES} frames, {size / 1e9:.2f} GB of float16 cubes")

    print("\nwrite, median of 5")
    ways: dict[str, Callable[[], None]] = {
        "floor: plain file + fsync": lambda: write_raw(folder / "raw.bin", data),
        "ours: a sealed store": lambda: write_store(folder / "store", data),
        "plain: h5py chunks=True": lambda: write_plain(folder / "plain.h5", data),
    }
    report(ways, size, repeats=5)

    repack_store(
        folder / "store", folder / "compact", RepackOptions(dtype="8bit", compression="zstd")
    )
    rng = np.random.default_rng(0)
    chosen = rng.integers(num_videos, size=400)
    starts = rng.integers(VIDEO_FRAMES - WINDOW, size=400)
    windows = list(zip(chosen.tolist(), starts.tolist(), strict=True))
    readers = open_readers(folder, num_videos)
    for name, jobs in {
        f"random windows of {WINDOW} frames": [(v, s, s + WINDOW) for v, s in windows],
        "whole videos in order": [(v, 0, VIDEO_FRAMES) for v in range(num_videos)],
    }.items():
        print(f"\nread {name}, median of {REPEATS}, one core")
        size = sum(stop - start for _, start, stop in jobs) * 49 * 1024 * 2
        report({way: loop(read, jobs) for way, read in readers.items()}, size, repeats=REPEATS)


def random_frames() -> np.ndarray:
    rng = np.random.default_rng(0)
    cubes = rng.gamma(1.0, 1.0, (2000, 7, 7, 1024)) * (rng.random((2000, 7, 7, 1024)) > 0.8)
    return cubes.astype(np.float16)


def frames_of(path: Path) -> np.ndarray:
    with Store(path) as store:
        return np.concatenate([store.cubes(video_id) for video_id in store.ids[:100]])


def write_raw(path: Path, data: list[np.ndarray]) -> None:
    with path.open("wb") as file:
        for video in data:
            for start in range(0, len(video), BATCH):
                file.write(video[start : start + BATCH].data)
        file.flush()
        os.fsync(file.fileno())


def write_store(path: Path, data: list[np.ndarray]) -> None:
    shutil.rmtree(path, ignore_errors=True)
    ids = [f"v{i:06}" for i in range(len(data))]
    rows = sum(map(len, data))
    with (
        StoreSession(path, HEADER, run_id="bench") as writer,
        writer.unit(rows=rows, video_ids=ids) as unit,
    ):
        for video_id, video in zip(ids, data, strict=True):
            for start in range(0, len(video), BATCH):
                block = video[start : start + BATCH]
                index = np.arange(start, start + len(block))
                unit.write_rows({
                    cube_path("center", LAYER.name): block,
                    "pts_seconds": index / 10, "frame_index": index,
                })  # fmt: skip
            unit.commit(id=video_id, **RECORD)


def write_plain(path: Path, data: list[np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "cubes", (sum(map(len, data)), 7, 7, 1024), np.float16, chunks=True
        )
        row = 0
        for video in data:
            for start in range(0, len(video), BATCH):
                block = video[start : start + BATCH]
                dataset[row : row + len(block)] = block
                row += len(block)
    with path.open("rb") as file:
        os.fsync(file.fileno())


Reader = Callable[[int, int, int], np.ndarray]


def open_readers(folder: Path, num_videos: int) -> dict[str, Reader]:
    flat = np.memmap(
        folder / "raw.bin", np.float16, "r", shape=(num_videos * VIDEO_FRAMES, 7, 7, 1024)
    )
    ours, compact = Store(folder / "store"), Store(folder / "compact")
    plain = h5py.File(folder / "plain.h5")["cubes"]
    at = VIDEO_FRAMES
    return {
        "floor: np.memmap, copied": lambda v, a, b: np.array(flat[v * at + a : v * at + b]),
        "ours: float16": lambda v, a, b: ours.cubes(f"v{v:06}", start=a, stop=b),
        "ours: compact (8-bit, zstd)": lambda v, a, b: compact.cubes(f"v{v:06}", start=a, stop=b),
        "plain: h5py chunks=True": lambda v, a, b: plain[v * at + a : v * at + b],
    }


def loop(read: Reader, jobs: list[tuple[int, int, int]]) -> Callable[[], None]:
    def run() -> None:
        for job in jobs:
            read(*job)

    return run


def report(ways: dict[str, Callable[[], None]], num_bytes: int, *, repeats: int) -> None:
    """Take turns, so that a busy moment meets all; print medians and ratios to the first."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    floor = statistics.median(next(iter(seconds.values())))
    for name, measured in seconds.items():
        median = statistics.median(measured)
        print(
            f"  {name:<30}{num_bytes / median / 1e6:8.0f} MB/s {floor / median:7.2f} of the floor"
        )


if __name__ == "__main__":
    main()
