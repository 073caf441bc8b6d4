"""Step 8: the same videos by one process, by several on one GPU, and by Dask's workers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.gpu_day import clips, networks
from benchmarks.gpu_day.extraction import weights_of
from benchmarks.gpu_day.soak import COMMAND, verify
from benchmarks.gpu_day.step import Row, Setting, run_step
from features_store.store import Store

NUM_VIDEOS = 3000
DECODERS = 12  # shared out among the processes


def rows(setting: Setting) -> Iterator[Row]:
    source = setting.scratch / "cluster"
    if setting.is_small:
        clips.synthetic(source, num_videos=3, size=(320, 240), num_frames=10)
    else:
        clips.copies(setting.clips, source, num_videos=NUM_VIDEOS)
    first: Path | None = None
    for name, more, number in ways(setting):
        store = setting.scratch / f"{len(name)}.cubes"
        row = {"what": name} | measured(source, store, setting, more, number)
        if store.exists():
            row["verify --full"] = verify(store)
            row |= compared(first or store, store)
            if first is None:
                first = store
            else:
                shutil.rmtree(store)  # disks of such machines are small
        yield row


def ways(setting: Setting) -> Iterator[tuple[str, list[str], int]]:
    """Yield name, flags, and number of processes started beside each other."""
    half = ["--workers", "1" if setting.is_small else str(DECODERS // 2)]
    whole = ["--workers", "1" if setting.is_small else str(DECODERS)]
    yield "one process", whole, 1
    if setting.is_small:
        return
    yield "two processes", [*half, "--processes", "2"], 1
    yield "Dask, local-cuda", [*whole, "--cluster", "local-cuda"], 1
    yield "Dask, two workers on one GPU", [*half, "--cluster", "dask", "--processes", "2"], 1
    yield "a plan and two that join", half, 2


def measured(source: Path, store: Path, setting: Setting, more: list[str], number: int) -> Row:
    """Extract; return seconds and frames a second, start of processes and all."""
    backbone = networks.names(setting)[0]
    weights = ["--weights", str(weights_of(backbone, setting))]
    said = [str(source), "--out", str(store), "--backbone", backbone, *weights, "--stride", "1"]
    said += ["--device", str(setting.device.type), "--compile", "off"]
    said += ["--precision", "fp32" if setting.device.type == "cpu" else "bf16"]
    started = time.monotonic()
    if number > 1:
        planned = subprocess.run([*COMMAND, "plan", *said], capture_output=True, text=True)
        if planned.returncode:
            return {"note": planned.stderr.strip()[-200:]}
        more = [*more, "--join"]
    command = [*COMMAND, "extract", *said, *more, "--json"]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(number)
    ]
    ended = [process.communicate() for process in running]
    if any(process.returncode for process in running):
        return {"note": " | ".join(err.strip()[-200:] for _, err in ended)}
    reports = [json.loads(out) for out, _ in ended]
    frames = sum(report["num_frames"] for report in reports)
    seconds = max(report["extracting_seconds"] for report in reports)
    return {
        "seconds, all": round(time.monotonic() - started, 1),
        "frames": frames,
        "kept frames/s": round(frames / seconds),
    }


def compared(first: Path, store: Path) -> Row:
    """Return how many videos are the same to the byte, and the worst cosine of a frame's cubes."""
    worst, same = 1.0, 0
    with Store(first) as ours, Store(store) as theirs:
        if ours.ids != theirs.ids:
            return {"videos": f"{len(theirs)} for {len(ours)}"}
        for video_id in ours.ids[::10]:
            a, b = (
                each.cubes(video_id).reshape(-1, ours.header.layers[-1].dim)
                for each in (ours, theirs)
            )
            same += np.array_equal(a, b)
            a, b = a.astype(np.float64), b.astype(np.float64)
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            cosines = (a * b).sum(1)[norms > 0] / norms[norms > 0]
            worst = min(worst, float(cosines.min(initial=1.0)))
    return {"videos": len(ours.ids), "of each tenth the same": same, "worst cosine": worst}


if __name__ == "__main__":
    sys.exit(run_step(rows))
