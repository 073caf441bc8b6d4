"""The command of the GPU day, small and on a CPU: all steps run, and nothing is lost on the way."""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu_day.table import markdown

ROOT = Path(__file__).parents[1]
STEPS = ["machine", "cuda_tests", "cubes", "backbones", "extraction", "training", "cluster", "soak"]


def test_every_step_measures_something_and_says_what_it_skips(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu_day", "--small", "--out", str(tmp_path)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    results = json.loads((tmp_path / "results.json").read_bytes())
    rows = {name: step["rows"] for name, step in results.items()}

    assert list(rows) == STEPS
    assert {name: step["problem"] for name, step in results.items() if step["problem"]} == {}
    assert all(rows.values())
    table = (tmp_path / "table.md").read_text()
    assert done.stdout.strip() == markdown(results).strip() == table.strip()
    assert rows["cuda_tests"] == [{"what": "pytest -m cuda", "is": "skipped: torch finds no GPU"}]
    (nvdec,) = [row for row in rows["extraction"] if row["decoder"] == "nvdec"]
    assert "NVDEC of GPU 0 cannot be used here" in nvdec["note"]
    rates = [row["kept frames/s"] for row in rows["extraction"] if row["decoder"] == "cpu"]
    assert len(rates) == 2
    assert min(rates) > 0
    said = {row["what"]: row["is"] for row in rows["soak"]}
    assert said["verify --full"].startswith("exit status 0")


def test_a_step_that_fails_stops_no_other(tmp_path):
    from argparse import Namespace

    from benchmarks.gpu_day.__main__ import run

    results = {"no_such_step": {"rows": [], "seconds": 0.0, "problem": ""}}
    given = Namespace(out=tmp_path, data=tmp_path, small=True)
    run("no_such_step", given, 1.0, results)

    assert "No module named benchmarks.gpu_day.no_such_step" in results["no_such_step"]["problem"]
    assert json.loads((tmp_path / "results.json").read_bytes()) == results
