"""A store of many shards opened, and windows read from it: this checkout against an older one.

    uv run python benchmarks/store_opening.py --older CHECKOUT [--shards 1000] [--pairs 20]

Every shard has one video of 32 frames (7×7×64 in float16). Both checkouts run in turn, each time in
a new process, from the page cache: the store is opened and every shard is asked for its first
video's record; then a window of 16 frames of each video is read and added up.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SHARDS, FRAMES, WINDOW = 1000, 32, 16
MEASURE = """
import json, sys, time
from features_store.store import Store
started = time.perf_counter()
with Store(sys.argv[1]) as store:
    ids = store.ids
    opened = time.perf_counter()
    for video_id in ids:
        store.video(video_id)
    described = time.perf_counter()
    total = sum(float(store.cubes(i, start=8, stop=24).sum(dtype="f8")) for i in ids)
    read = time.perf_counter()
    assert total > 0
print(json.dumps([opened - started, described - opened, read - described]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--older", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=SHARDS)
    parser.add_argument("--pairs", type=int, default=20)
    arguments = parser.parse_args()
    here = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "many.cubes"
        make(store, arguments.shards)
        run(here, store)  # the index, and the page cache
        pairs = [[run(place, store) for place in (arguments.older, here)]
                 for _ in range(arguments.pairs)]  # fmt: skip
    print("| what | before, ms | now, ms | now / before |\n|---|---|---|---|")
    for i, name in enumerate(("opened", f"{arguments.shards} records", f"{WINDOW}-frame windows")):
        before, now = (statistics.median(pair[j][i] for pair in pairs) * 1e3 for j in (0, 1))
        ratios = sorted(pair[1][i] / pair[0][i] for pair in pairs)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"| {name} | {before:.1f} | {now:.1f} | {spread} |")


def make(path: Path, num_shards: int) -> None:
    """Write a store with a shard for each video."""
    import secrets

    import numpy as np
    from store_speed import RECORD, SPEC

    from features_store.format.layout import LayerShape
    from features_store.metadata import StoreHeader
    from features_store.session import StoreSession
    from features_store.sources import new_source

    layers = (LayerShape("top", 7, 64),)
    header = StoreHeader(SPEC, layers, sources=(new_source("/"),), has_diffs=False)
    rows = {a.path: np.ones((FRAMES, *a.row_shape), a.dtype) for a in header.arrays}
    rows["pts_seconds"] = np.arange(FRAMES) / 10
    with StoreSession(path, header, run_id=secrets.token_hex(8)) as session:
        for number in range(num_shards):
            video_id = f"class/{number:06}.mp4"
            with session.unit(rows=FRAMES, video_ids=[video_id]) as unit:
                unit.write_rows(rows)
                unit.commit(id=video_id, **RECORD)


def run(place: Path, store: Path) -> list[float]:
    """Return the seconds of each part in a process of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-c", MEASURE, str(store)]
    done = subprocess.run(
        command, cwd=place, env=environment, text=True, capture_output=True, check=True
    )
    seconds: list[float] = json.loads(done.stdout)
    return seconds


if __name__ == "__main__":
    main()
