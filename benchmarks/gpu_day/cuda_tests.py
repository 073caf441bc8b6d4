"""Step 2: the tests that need a GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import torch

from benchmarks.gpu_day.step import Row, Setting, run_step


def rows(setting: Setting) -> Iterator[Row]:
    if not torch.cuda.is_available():
        yield {"what": "pytest -m cuda", "is": "skipped: torch finds no GPU"}
        return
    with (setting.scratch / "pytest.txt").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-m", "cuda", "-n", "4", "-q", "--tb=short",
             "-p", "no:benchmark", "tests"],
            stdout=log, stderr=log, env={**os.environ, "FAIL_WITHOUT_CUDA": "1"},
        )  # fmt: skip
        try:
            process.wait(setting.seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            yield {"what": "pytest -m cuda", "is": f"stopped after {setting.seconds:.0f} s"}
        log.seek(0)
        text = log.read()
    print(text[-20_000:], file=sys.stderr)
    for line in re.findall(r"^(?:FAILED|ERROR) .*$", text, re.MULTILINE):
        yield {"what": "test", "is": line[:300]}
    yield {"what": "pytest -m cuda", "is": text.strip().splitlines()[-1].strip("= ")}


if __name__ == "__main__":
    run_step(rows)
