"""A stand-in for SLURM: runs the tasks of an array, pre-empts them, and requeues them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 60  # for anything that is waited for
REQUEUE = """#!/bin/sh
echo "$@" >> "$STAND_IN/requeued"
kill -KILL "$PPID" # as SLURM does with a batch job that asks to be requeued
"""
REFUSE = """#!/bin/sh
echo "$@" >> "$STAND_IN/refused"
exit 1
"""


@dataclass
class Array:
    """What became of the tasks of an array: exit code and number of restarts of each."""

    codes: dict[int, int] = field(default_factory=dict)
    restarts: dict[int, int] = field(default_factory=dict)
    requeued: list[str] = field(default_factory=list)


def sbatch(
    script: Path,
    folder: Path,
    *,
    path: Path,
    preempt: Iterable[Callable[[], object]] = (),
    order: Sequence[int] | None = None,
    scontrol: str = REQUEUE,
) -> Array:
    """Run an array's tasks one after the other, each again as often as it is requeued.

    Args:
        folder: for files of the stand-in.
        path: where `cubereel` is.
        preempt: each is called while a task runs, one after the other, and when it returns the
            task's shell gets SIGTERM; only the shell does, as with ``--signal=B:TERM``.
        order: of the tasks; by default 0, 1, …
    """
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    write_program(tools / "scontrol", scontrol)
    last = int(re.findall(r"^#SBATCH --array=0-(\d+)$", script.read_text(), re.MULTILINE)[0])
    array, moments = Array(), iter(preempt)
    for task in order or range(last + 1):
        array.restarts[task] = -1
        is_requeued = True
        while is_requeued:
            array.restarts[task] += 1
            environment = task_environment(
                task, path=[tools, path], restarts=array.restarts[task]
            ) | {"STAND_IN": str(folder)}
            array.codes[task] = _run(script, environment, next(moments, None))
            is_requeued = (folder / "requeued").exists()
            if is_requeued:
                array.requeued.append((folder / "requeued").read_text().strip())
                (folder / "requeued").unlink()
    return array


def task_environment(task: int, *, path: Sequence[Path], restarts: int = 0) -> dict[str, str]:
    """Return the environment of a task of an array; SLURM counts only restarts that there were."""
    said = {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": str(task)}
    if restarts:
        said["SLURM_RESTART_COUNT"] = str(restarts)
    return os.environ | said | {"PATH": ":".join([*map(str, path), os.environ["PATH"]])}


def until(is_so: Callable[[], object]) -> Callable[[], None]:
    """Return what waits until something is so, for `preempt`."""

    def wait() -> None:
        end = time.monotonic() + SECONDS
        while not is_so():
            assert time.monotonic() < end, "it did not come"
            time.sleep(0.005)

    return wait


def write_program(path: Path, text: str) -> None:
    """Write a script that can be run."""
    path.write_text(text)
    path.chmod(0o755)


def _run(script: Path, environment: dict[str, str], preempt: Callable[[], object] | None) -> int:
    """Run a task once, and return its exit code."""
    with subprocess.Popen(["bash", str(script)], env=environment, stdout=sys.stderr) as job:
        if preempt is not None:
            preempt()
            job.send_signal(signal.SIGTERM)
        return job.wait(timeout=SECONDS)
