"""Large numbers: a store of a million videos opened, a video found in it; a hundred stores merged.

    uv run python benchmarks/store_scale.py [--out FOLDER] [--videos N] [--stores N]

Cubes are tiny (1 × 1 × 4): what is measured is the index, not the disk.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from store_speed import RECORD, SPEC

from features_store.catalogue import Catalogue, ShardEntry, write_catalogue
from features_store.format.layout import LayerShape, cube_path
from features_store.format.records import VideoRecord, pack_record, record_checksum
from features_store.metadata import StoreHeader, write_header
from features_store.session import StoreSession
from features_store.shards.sealing import NewShard, describe_shard
from features_store.shards.writer import create_shard_file
from features_store.sources import new_source

SOURCE = new_source("/")
HEADER = StoreHeader(SPEC, (LayerShape("top", 1, 4),), sources=(SOURCE,), has_diffs=False)
WIDE = StoreHeader(SPEC, (LayerShape("top", 7, 1024),), sources=(SOURCE,), has_diffs=False)
PER_SHARD, FRAMES = 5000, 2
ID = "Kinetics/class_{:03}/video_{:011}.mp4"

OPEN = """
import resource, sys, time
from features_store.store import Store
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter(); store = Store(sys.argv[1]); opened = time.perf_counter() - started
position = len(store) // 3
wanted = [store.index.ids[i].decode() for i in range(0, len(store), len(store) // 1000)][:1000]
started = time.perf_counter()
for video_id in wanted: assert store.num_frames_of(video_id) == 2
found = (time.perf_counter() - started) / len(wanted)
started = time.perf_counter(); store.cubes(wanted[-1]); read = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"open {opened:.3f} s, find {found * 1e6:.1f} us, first read {read * 1e3:.1f} ms, "
      f"peak memory {peak / 1e3:.0f} MB (of which {before / 1e3:.0f} MB are the imports)")
"""
MERGE = """
import resource, sys, time
from features_store.verbs.merge import merge_stores
started = time.perf_counter(); report = merge_stores(sys.argv[2:], sys.argv[1])
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"merge {len(sys.argv) - 2} stores, {report.num_videos} videos, {report.num_frames} frames: "
      f"{seconds:.1f} s, {report.num_shards} shards, peak memory {peak / 1e3:.0f} MB")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--stores", type=int, default=100)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.out))
    try:
        million(folder / "million", arguments.videos)
        hundred(folder, arguments.stores)
    finally:
        shutil.rmtree(folder)


def million(path: Path, num_videos: int) -> None:
    started = time.perf_counter()
    (path / "shards").mkdir(parents=True)
    write_header(path, HEADER)
    entries: list[ShardEntry] = []
    for first in range(0, num_videos, PER_SHARD):
        shard = write_tiny_shard(path / "shards" / f"s{first:08}-1.h5", first, PER_SHARD)
        shard.publish(path / "shards", entries.append, {})
    write_catalogue(path, Catalogue(SPEC.digest, tuple(entries)))
    shards = len(list((path / "shards").glob("*.h5")))
    print(f"made {num_videos} videos in {shards} shards in {time.perf_counter() - started:.0f} s")
    for what in ("without an index: ", "with it:          ", "again:            "):
        print(what + run(OPEN, path))


def write_tiny_shard(path: Path, first: int, num_videos: int) -> NewShard:
    """Write a shard in bulk; `StoreSession` would flush a million times."""
    ids = [ID.format(i % 400, i) for i in range(first, first + num_videos)]
    rows = num_videos * FRAMES
    content = path.with_suffix(".h5.sealing")
    with create_shard_file(
        content, HEADER.arrays, rows=rows, videos=num_videos, id_bytes=len(ids[0]),
        spec=SPEC,
    ) as file:  # fmt: skip
        file[cube_path("center", "top")][:] = np.ones((rows, 1, 1, 4), np.float16)
        file["pts_seconds"][:] = np.arange(rows) / 10
        file["frame_index"][:] = np.arange(rows)
        record = VideoRecord(
            id=ids[0], source=SOURCE.id, offset=0, length=FRAMES, checksums=(0, 0, 0), **RECORD
        )
        table = np.repeat(pack_record(record, file["videos"].dtype), num_videos)
        table["id"] = ids
        table["offset"] = np.arange(num_videos) * FRAMES
        table["record_checksum"] = [record_checksum(table[i : i + 1]) for i in range(num_videos)]
        file["videos"][:] = table
    entry = describe_shard(content, HEADER.arrays, name=path.stem, spec=SPEC)
    return NewShard(entry, content.name)


def hundred(folder: Path, num_stores: int) -> None:
    rng = np.random.default_rng(0)
    cubes = rng.random((30, 7, 7, 1024)).astype(np.float16)
    paths = []
    for i in range(num_stores):
        paths.append(folder / f"part{i:03}")
        ids = [f"part{i:03}/{j}.mp4" for j in range(10)]
        with (
            StoreSession(paths[-1], WIDE, run_id="bench") as writer,
            writer.unit(rows=300, video_ids=ids) as unit,
        ):
            for video_id in ids:
                index = np.arange(30)
                unit.write_rows({
                    cube_path("center", "top"): cubes, "pts_seconds": index / 10,
                    "frame_index": index,
                })  # fmt: skip
                unit.commit(id=video_id, **RECORD)
    print(run(MERGE, folder / "merged", *paths))


def run(code: str, *arguments: Path) -> str:
    """Run code in a process of its own, so that its memory is its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
