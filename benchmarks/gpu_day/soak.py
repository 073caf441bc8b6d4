"""Step 7: extraction that is killed again and again, then finished and verified."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu_day import clips, networks
from benchmarks.gpu_day.extraction import weights_of
from benchmarks.gpu_day.step import Row, Setting, run_step

KILLING_SHARE = 0.6  # of the time; the rest is for finishing and for verifying
COMMAND = [sys.executable, "-P", "-c", "from pipelines.cli import main; main()"]


def rows(setting: Setting) -> Iterator[Row]:
    backbone = networks.names(setting)[0]
    source = setting.scratch / "soak"
    if setting.is_small:
        clips.synthetic(source, num_videos=3, size=(320, 240), num_frames=10)
    else:
        clips.copies(setting.clips, source, num_videos=4000)
    num_videos = len(list(source.iterdir()))
    store = setting.scratch / "soak.cubes"
    arguments = [
        "extract", str(source), "--out", str(store), "--backbone", backbone, "--weights",
        str(weights_of(backbone, setting)), "--device", str(setting.device), "--json",
        "--workers", "1" if setting.is_small else "8", "--stride", "1",
    ]  # fmt: skip
    random.seed(0)
    started, num_kills = time.monotonic(), 0
    while time.monotonic() - started < KILLING_SHARE * setting.seconds:
        with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL) as process:
            try:
                process.wait(random.uniform(3, 4) if setting.is_small else random.uniform(6, 14))
                break  # all is done
            except subprocess.TimeoutExpired:
                process.kill()
                num_kills += 1
    result = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [""]
        yield {"what": "extract", "is": f"exit status {result.returncode}: {lines[-1]}"}
        return
    last = json.loads(result.stdout)
    done = last["num_done_before"] + last["num_extracted"]
    yield {"what": "kills", "is": num_kills}
    yield {"what": "seconds", "is": round(time.monotonic() - started)}
    yield {
        "what": "videos done",
        "is": f"{done} of {num_videos}, {last['num_done_before']} of them before",
    }
    yield {"what": "verify --full", "is": verify(store)}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        yield {"what": "GPU memory left in use", "is": f"{(total - free) / 2**30:.2f} GiB"}


def verify(store: Path) -> str:
    asked = [*COMMAND, "store", "verify", "--full", str(store)]
    result = subprocess.run(asked, capture_output=True, text=True, check=False)
    said = (result.stdout or result.stderr).strip().splitlines()
    return f"exit status {result.returncode}: {said[-1] if said else ''}"


if __name__ == "__main__":
    run_step(rows)
