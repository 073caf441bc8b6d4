"""Stand-ins for `sbatch` and `scontrol`: tasks of an array, pre-empted and requeued."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

SCONTROL = """#!/bin/sh
echo "$@" >> "$STAND_IN/requeued"
# SLURM ends the batch job that asks for its own requeue.
kill -KILL "$PPID"
"""


@dataclass
class Array:
    """What became of the tasks of an array: exit code and number of restarts of each."""

    codes: dict[int, int] = field(default_factory=dict)
    restarts: dict[int, int] = field(default_factory=dict)
    requeued: list[str] = field(default_factory=list)


def sbatch(script: Path, folder: Path, *, preempt=(), order=None, path=None) -> Array:
    """Run an array's tasks one after the other, each again as often as it is requeued.

    Args:
        preempt: seconds after which the first task's first, second, … runs get SIGTERM; only its
            shell does, as with ``--signal=B:TERM``.
        order: of the tasks; by default 0, 1, …
    """
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "scontrol").write_text(SCONTROL)
    (tools / "scontrol").chmod(0o755)
    last = int(re.search(r"--array=0-(\d+)", script.read_text())[1])
    array = Array()
    seconds = list(preempt)
    for task in order or range(last + 1):
        array.restarts[task] = -1
        is_requeued = True
        while is_requeued:
            array.restarts[task] += 1
            (folder / "requeued").unlink(missing_ok=True)
            environment = os.environ | {
                "PATH": f"{tools}:{path}:{os.environ['PATH']}"
                if path
                else f"{tools}:{os.environ['PATH']}",
                "STAND_IN": str(folder),
                "SLURM_ARRAY_JOB_ID": "77",
                "SLURM_ARRAY_TASK_ID": str(task),
                "SLURM_RESTART_COUNT": str(array.restarts[task]),
            }
            with subprocess.Popen(["bash", str(script)], env=environment, stdout=sys.stderr) as job:
                if seconds:
                    time.sleep(seconds.pop(0))
                    job.send_signal(signal.SIGTERM)
                array.codes[task] = job.wait(timeout=120)
            is_requeued = (folder / "requeued").exists()
            if is_requeued:
                array.requeued.append((folder / "requeued").read_text().strip())
    return array
