"""The SLURM script: sound bash, arguments as they are, requeued as often as it should."""

import subprocess
import sys
from pathlib import Path

import pytest

from features_store.errors import UsageError
from pipelines.executors.slurm_script import MAX_FAULTS, slurm_script
from pipelines.extraction.status import status
from tests.clips import write_classes
from tests.slurm_stand_in import sbatch
from tests.test_many_writers import OPTIONS, extract, require_whole

SHELLCHECK = Path(sys.executable).with_name("shellcheck")
HOSTILE = [
    "a b", "it's", '"quoted"', "$HOME", "$(touch pwned)", "`touch pwned`", "*", "a\\b", "!x", ";ls",
    "é ☃", "--flag=x", "#no", "{a,b}", "~root", "\t", "%x", "&", "|",
]  # fmt: skip
FAKE = """#!/usr/bin/env python3
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ["STAND_IN"])
codes = (folder / "codes").read_text().split()
number = len(list(folder.glob("call*")))
(folder / f"call{number}").write_text(json.dumps(sys.argv[1:]))
if codes[number] == "wait":
    signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), os._exit(75)))
    time.sleep(60)
sys.exit(int(codes[number]))
"""


def written(folder, arguments=("extract", "a"), **said):
    said = {"num_tasks": 2, "num_units": 7, "workers": 4, "has_gpu": True} | said
    script = folder / "job.sh"
    script.write_text(slurm_script(list(arguments), **said))
    return script


@pytest.fixture
def fake(tmp_path):
    """A folder with a `cubereel` that ends as the file `codes` says."""
    (tmp_path / "cubereel").write_text(FAKE)
    (tmp_path / "cubereel").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("has_gpu", [True, False])
def test_the_script_is_sound(tmp_path, has_gpu):
    script = written(tmp_path, ["extract", *HOSTILE], has_gpu=has_gpu)
    assert ("--gpus-per-task=1" in script.read_text()) == has_gpu
    subprocess.run(["bash", "-n", script], check=True)
    if not SHELLCHECK.exists():
        pytest.skip("shellcheck is not installed")
    found = subprocess.run([SHELLCHECK, script], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_arguments_arrive_as_they_are(fake):
    import json

    (fake / "codes").write_text("0 0")
    array = sbatch(written(fake, ["extract", *HOSTILE]), fake, path=fake)
    assert array.codes == {0: 0, 1: 0}
    for task in (0, 1):
        said = json.loads((fake / f"call{task}").read_text())
        assert said == ["extract", *HOSTILE, "--unit", f"{task}/2"]
    assert not (fake / "pwned").exists()
    with pytest.raises(UsageError, match="line break"):
        written(fake, ["a\nb"])


@pytest.mark.parametrize(
    ("codes", "code", "restarts"),
    [
        ("75 75 75 0", 0, 3),
        ("5 " * 9, 5, MAX_FAULTS),
        ("5 0", 0, 1),
        ("143 137 0", 0, 2),
        ("4", 4, 0),
        ("2", 2, 0),
        ("1", 1, 0),
    ],
)
def test_a_task_is_requeued_as_its_code_says(fake, codes, code, restarts):
    (fake / "codes").write_text(codes)
    array = sbatch(written(fake, num_tasks=1), fake, path=fake)
    assert (array.codes, array.restarts) == ({0: code}, {0: restarts})
    assert array.requeued == ["requeue 77_0"] * restarts


def test_a_signal_is_passed_on_and_waited_for(fake):
    (fake / "codes").write_text("wait wait 0")
    array = sbatch(written(fake, num_tasks=1), fake, path=fake, preempt=(0.6, 0.6))
    assert (array.codes, array.restarts) == ({0: 0}, {0: 2})


def test_an_array_that_is_preempted_three_times_makes_the_same_store(tmp_path, cubereel):
    videos = write_classes(tmp_path / "it's $HOME", per_class=5)
    store = tmp_path / "a b.cubes"
    code = cubereel(
        "plan", videos, "--backbone", "tiny:conv", "--fps", "10", "--device", "cpu", "--out", store,
        "--precision", "fp32", "--lease", "2", "--slurm", "2", "--calibrate", "0.2",
    )  # fmt: skip
    assert code == 0
    script = tmp_path / "job.sh"
    script.write_text(cubereel.out)
    tools = Path(sys.executable).parent
    array = sbatch(script, tmp_path, path=tools, preempt=(0.5, 3.0, 4.0))
    assert set(array.codes.values()) == {0}
    alone = tmp_path / "alone.cubes"
    extract(videos, out=alone, options=OPTIONS)
    require_whole(store, alone)
    assert status(store).units_done == status(store).units
