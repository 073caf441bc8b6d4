"""A job of 240,000 videos priced before it starts: `cubereel plan` on a manifest of that length.

    uv run python benchmarks/plan_scale.py [--out FOLDER] [--videos N]

Once with ``num_frames`` and ``fps`` in the manifest, whose files need not exist, once with
headers in the cache of headers, where every (empty) file is looked at for size and time. What
reading a source takes by itself stands beside both.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

from extract.video.header import VideoHeader
from pipelines.extraction.header_cache import HeaderCache
from pipelines.extraction.sources import read_source

CLASSES = 400
RATES = (Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(15))
PLAN = """
import resource, sys, time
started = time.perf_counter()
from pipelines.extraction.estimate import plan
imported = time.perf_counter() - started
report = plan(sys.argv[1], header_cache=sys.argv[2], fps="10", calibrate_seconds=0,
              backbone="caffe:googlenet")
seconds = time.perf_counter() - started
peak, size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, report.bytes["float16"]["total"]
print(f"{report.videos} videos, {report.frames} frames, {size / 1e12:.2f} TB in float16: "
      f"{seconds:.1f} s (imports {imported:.1f} s), {time.process_time():.1f} s of CPU, "
      f"peak memory {peak / 1e3:.0f} MB")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--videos", type=int, default=240_000)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.out))
    try:
        measure(folder, arguments.videos)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, num_videos: int) -> None:
    videos = [
        (f"class_{i % CLASSES:03}/video_{i:011}.mp4", 100 + i * 7919 % 500, RATES[i % len(RATES)])
        for i in range(num_videos)
    ]
    said, plain = folder / "said.csv", folder / "plain.csv"
    with said.open("w") as file:
        file.write("path,label,num_frames,fps\n")
        file.writelines(f"{p},{p[:9]},{n},{float(rate):.5f}\n" for p, n, rate in videos)
    with plain.open("w") as file:
        file.write("path,label\n")
        file.writelines(f"{p},{p[:9]}\n" for p, _, _ in videos)
    started = time.perf_counter()
    read_source(said)
    print(f"reading the source alone: {time.perf_counter() - started:.1f} s")
    print("said in the manifest:", run(said, folder))
    fill_cache(folder, videos)
    print("known in the cache:  ", run(plain, folder))


def fill_cache(folder: Path, videos: list[tuple[str, int, Fraction]]) -> None:
    for number in range(CLASSES):
        (folder / f"class_{number:03}").mkdir()
    headers = []
    for path, num_frames, rate in videos:
        (folder / path).touch()
        seconds = float(num_frames / rate)
        header = VideoHeader(320, 240, rate, 1 / (rate * 512), seconds, num_frames, True, "h264")
        headers.append((path, os.stat(folder / path), header))  # noqa: PTH116
    HeaderCache(folder / "cache", folder).add(headers)


def run(manifest: Path, folder: Path) -> str:
    command = [sys.executable, "-c", PLAN, str(manifest), str(folder / "cache")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
