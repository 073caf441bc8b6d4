"""Everything that only a GPU can show, in one command.

    uv run python -m benchmarks.gpu_day --out FOLDER [--data FOLDER] [--small] [--step NAME …]
        [--minutes M]

Each step is a process of its own with its own share of the minutes, so none stops the next. After
every row `results.json` and `table.md` in FOLDER are written anew: a run that is cut off loses
nothing. `--data` holds real clips and weights (see `pack`); without a GPU, or with `--small`,
everything is measured at a small size on a CPU, and what that skips stays blank.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu_day.table import markdown

# Shares of the minutes.
STEPS = {
    "machine": 0.03,
    "cuda_tests": 0.15,
    "cubes": 0.2,
    "backbones": 0.24,
    "extraction": 0.29,
    "training": 0.09,
    "cluster": 0.2,
    "soak": 0.0,  # as long as `--soak` says
}
MARGIN_SECONDS = 45.0  # a step starts Python and ends by itself before it is killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("no-data"))
    parser.add_argument("--step", action="append", choices=list(STEPS), help="instead of all")
    parser.add_argument("--minutes", type=float, default=9.0, help="of all steps but the soak")
    parser.add_argument("--soak", type=float, default=0.0, help="minutes of extraction with kills")
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    steps = given.step or list(STEPS)
    total = sum(STEPS[name] for name in steps) or 1.0
    results: dict[str, Any] = {}
    for name in steps:
        seconds = 60 * given.minutes * STEPS[name] / total
        if name == "soak":
            seconds = 2.0 if given.small else 60 * given.soak
            if not seconds:
                continue
        results[name] = {"rows": [], "seconds": 0.0, "problem": ""}
        run(name, given, seconds, results)
    print(markdown(results))


def run(name: str, given: argparse.Namespace, seconds: float, results: dict[str, Any]) -> None:
    """Run one step to its end or to its limit, writing down each row as it comes."""
    started = time.monotonic()
    step = results[name]
    with (
        tempfile.TemporaryDirectory(prefix="gpu-day-") as scratch,
        (given.out / f"{name}.log").open("w+") as log,
    ):
        command = [
            sys.executable, "-m", f"benchmarks.gpu_day.{name}", "--data", str(given.data),
            "--scratch", scratch, "--seconds", str(seconds), *(["--small"] * given.small),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
            limit = threading.Timer(seconds + MARGIN_SECONDS, process.kill)
            limit.start()
            for line in process.stdout or ():
                step["rows"].append(json.loads(line))
                step["seconds"] = round(time.monotonic() - started, 1)
                write(given.out, results)
            status = process.wait()
            limit.cancel()
        if status:
            log.seek(0)
            said = log.read().strip().splitlines()
            step["problem"] = f"exit status {status}: {said[-1] if said else ''}"
    step["seconds"] = round(time.monotonic() - started, 1)
    write(given.out, results)


def write(folder: Path, results: dict[str, Any]) -> None:
    (folder / "results.json").write_text(json.dumps(results, indent=1))
    (folder / "table.md").write_text(markdown(results))


if __name__ == "__main__":
    main()
