"""The SLURM script: sound bash, arguments as they are, requeued as often as it should."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features_store.errors import UsageError
from pipelines.executors.slurm_script import MAX_FAULTS, MAX_RESTARTS, slurm_script
from pipelines.extraction.extract import extract
from pipelines.extraction.status import status
from tests.clips import write_classes
from tests.slurm_stand_in import REFUSE, SECONDS, sbatch, task_environment, until, write_program
from tests.test_many_writers import OPTIONS, require_whole

SHELLCHECK = Path(sys.executable).with_name("shellcheck")
HOSTILE = [
    "a b", "it's", '"quoted"', "$HOME", "$(touch pwned)", "`touch pwned`", "*", "a\\b", "!x", ";ls",
    "é ☃", "--flag=x", "#no", "{a,b}", "~root", "\t", "%x", "&", "|", "", "two\nlines\n",
    "a\n#SBATCH --array=0-99\n", "'", "it\\'", "‘so’", "“so”", "\x1b[0m", "{num_tasks}",
]  # fmt: skip
# Writes what it got to the next call's file, and ends as the next word of `codes` says.
FAKE = """#!/bin/bash
number=$(find "$STAND_IN" -name 'call*' | wc -l)
printf '%s\\0' "$@" > "$STAND_IN/begun"
read -ra codes < "$STAND_IN/codes"
trap 'kill $!; sleep 0.2; exit 75' TERM
mv "$STAND_IN/begun" "$STAND_IN/call$number"
[ "${codes[number]}" = wait ] || exit "${codes[number]}"
sleep 60 &
wait
"""


def write_script(folder, arguments=("extract", "a"), **said):
    said = {"num_tasks": 2, "num_units": 7, "workers": 4, "has_gpu": True} | said
    script = folder / "job.sh"
    script.write_text(slurm_script(list(arguments), **said))
    return script


def calls_of(folder):
    return [
        (folder / f"call{i}").read_text().split("\0")[:-1]
        for i in range(len(list(folder.glob("call*"))))
    ]


def require_sound(script):
    """Have bash and shellcheck read a script."""
    subprocess.run(["bash", "-n", script], check=True)
    if not SHELLCHECK.exists():
        pytest.skip("shellcheck is not installed; it is in the dependency group 'lint'")
    found = subprocess.run([SHELLCHECK, script], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.fixture
def fake(tmp_path):
    """A folder with a `cubereel` that ends as the file `codes` says."""
    write_program(tmp_path / "cubereel", FAKE)
    return tmp_path


@pytest.mark.parametrize("has_gpu", [True, False])
def test_the_script_is_sound(tmp_path, has_gpu):
    script = write_script(tmp_path, ["extract", *HOSTILE], has_gpu=has_gpu)
    said = script.read_text().partition("set -u\n")[0].splitlines()

    assert ("#SBATCH --gpus-per-task=1" in said) == has_gpu
    assert {"#SBATCH --array=0-1", "#SBATCH --cpus-per-task=6", "#SBATCH --requeue"} < set(said)
    assert all(line.startswith("#") for line in said)  # sbatch reads no further
    require_sound(script)


def test_arguments_arrive_as_they_are(fake):
    (fake / "codes").write_text("0 0")
    array = sbatch(write_script(fake, ["extract", *HOSTILE]), fake, path=fake, order=[1, 0])

    assert array.codes == {0: 0, 1: 0}
    assert calls_of(fake) == [["extract", *HOSTILE, "--unit", f"{task}/2"] for task in (1, 0)]
    assert not Path("pwned").exists()


@settings(max_examples=8, deadline=None)
@example(["then", "done"])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))))
def test_any_arguments_arrive_as_they_are(arguments):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_program(folder / "cubereel", "#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
        script = write_script(folder, arguments, num_tasks=5)
        ran = subprocess.run(
            ["bash", script],
            env=task_environment(3, path=[folder]),
            capture_output=True,
            check=True,
        )
        assert ran.stdout.decode().split("\0")[:-1] == [*arguments, "--unit", "3/5"]
        require_sound(script)


@pytest.mark.parametrize(
    ("argument", "said"),
    [("a\0b", "NUL"), ("a\r\nb", "carriage return"), ("a\udcff", "not UTF-8")],
)
def test_arguments_that_no_script_can_hold_are_refused(tmp_path, argument, said):
    with pytest.raises(UsageError, match=said):
        write_script(tmp_path, ["extract", argument])


@pytest.mark.parametrize(
    ("codes", "code", "restarts"),
    [
        ("75 75 75 0", 0, 3),
        ("5 " * 9, 5, MAX_FAULTS),
        ("5 0", 0, 1),
        ("75 5 75 5", 5, MAX_FAULTS),  # of a task that was stopped too, fewer faults are forgiven
        ("143 137 0", 0, 2),
        ("4", 4, 0),
        ("2", 2, 0),
        ("1", 1, 0),
        ("127", 127, 0),
    ],
)
def test_a_task_is_requeued_as_its_code_says(fake, codes, code, restarts):
    (fake / "codes").write_text(codes)
    array = sbatch(write_script(fake, num_tasks=1), fake, path=fake)

    assert (array.codes, array.restarts) == ({0: code}, {0: restarts})
    assert array.requeued == ["requeue 77_0"] * restarts
    assert len(calls_of(fake)) == restarts + 1


def test_a_task_is_not_requeued_for_ever(fake):
    (fake / "codes").write_text("75 75")
    script = write_script(fake)
    write_program(fake / "scontrol", '#!/bin/sh\ntouch "$STAND_IN/asked$SLURM_RESTART_COUNT"\n')
    for restarts in (MAX_RESTARTS - 1, MAX_RESTARTS):
        environment = task_environment(0, path=[fake], restarts=restarts)
        ran = subprocess.run(["bash", script], env=environment | {"STAND_IN": str(fake)})
        assert ran.returncode == 75

    assert [path.name for path in fake.glob("asked*")] == [f"asked{MAX_RESTARTS - 1}"]


def test_where_requeuing_is_refused_the_code_stays(fake):
    (fake / "codes").write_text("75")
    array = sbatch(write_script(fake, num_tasks=1), fake, path=fake, scontrol=REFUSE)

    assert (array.codes, array.restarts) == ({0: 75}, {0: 0})
    assert (fake / "refused").read_text() == "requeue 77_0\n"


def test_a_signal_is_passed_on_and_waited_for(fake):
    (fake / "codes").write_text("wait wait 0")
    script = write_script(fake, num_tasks=1)
    moments = [until((fake / f"call{i}").exists) for i in range(2)]
    array = sbatch(script, fake, path=fake, preempt=moments)

    assert (array.codes, array.restarts) == ({0: 0}, {0: 2})


@pytest.mark.parametrize("code", [0, 4])
def test_a_signal_that_comes_at_the_end_does_not_change_the_code(fake, code):
    ending = f"trap 'kill $!; exit {code}' TERM; touch begun; sleep 60 & wait"
    write_program(fake / "cubereel", f"#!/bin/bash\n{ending}\n")
    # So the command has ended before the script looks again.
    (fake / "slow").write_text('kill() { builtin kill "$@" || return; sleep 0.3; }\n')
    environment = task_environment(0, path=[fake]) | {"BASH_ENV": "slow"}
    with subprocess.Popen(["bash", write_script(fake)], cwd=fake, env=environment) as job:
        until((fake / "begun").exists)()
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=SECONDS) == code


def test_it_says_what_to_do_where_it_is_run_without_sbatch(fake):
    environment = {name: value for name, value in os.environ.items() if "SLURM" not in name}
    script = write_script(fake)
    ran = subprocess.run(["bash", script], env=environment, capture_output=True, text=True)

    assert ran.returncode != 0
    assert "SLURM_ARRAY_TASK_ID: is not set; submit this script with sbatch" in ran.stderr


@pytest.mark.slow  # the command starts four times
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
    # A worker has its lease only while it is there to be told.
    at_work = until(lambda: list((store / "units").glob("worker-*.lease")))
    array = sbatch(script, tmp_path, path=Path(sys.executable).parent, preempt=[at_work] * 3)

    assert array.requeued == ["requeue 77_0"] * 3
    assert set(array.codes.values()) == {0}
    alone = tmp_path / "alone.cubes"
    extract(videos, out=alone, options=OPTIONS)
    require_whole(store, alone)
    assert status(store).units_done == status(store).units
