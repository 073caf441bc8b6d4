"""Starts processes by forking, with all imported before: ``python -m tests.chaos.nursery``.

A line of JSON asks for one thing; a line answers. Where a host of its own is wanted, this process
is started there.
"""

import json
import os
import sys
from contextlib import suppress


def main() -> None:
    _import_all()
    for line in sys.stdin:
        said = json.loads(line)
        print(json.dumps(_answer(said)), flush=True)


def _import_all() -> None:
    import distributed.cli.dask_scheduler
    import distributed.cli.dask_worker  # noqa: F401

    import pipelines.cli
    import pipelines.executors.dask
    import pipelines.extraction.extract  # noqa: F401


def _answer(said: dict) -> int | None:
    if said["do"] == "start":
        return _start(said["command"], said["log"])
    if said["do"] == "signal":
        with suppress(ProcessLookupError):
            os.killpg(said["pid"], said["number"])
        return None
    pid, status = os.waitpid(said["pid"], 0 if said["do"] == "wait" else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def _start(command: list[str], log: str) -> int:
    pid = os.fork()
    # On both sides, so that no signal comes before.
    with suppress(OSError):
        os.setpgid(pid, pid or os.getpid())
    if pid:
        return pid
    code = 1
    try:
        for descriptor, path, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        ):
            os.dup2(os.open(path, flags), descriptor)
        os.dup2(1, 2)
        code = _run(command)
    finally:
        os._exit(code)


def _run(command: list[str]) -> int:
    """Be the program that a command line is of."""
    sys.argv = command
    try:
        if command[0] == "cubereel":
            from pipelines.cli import main as cubereel

            cubereel()
        elif command[0] == "dask-worker":
            from distributed.cli.dask_worker import main as worker

            worker(command[1:], standalone_mode=False)
        else:
            from distributed.cli.dask_scheduler import main as scheduler

            scheduler(command[1:], standalone_mode=False)
    except SystemExit as left:
        return int(left.code or 0)
    return 0


if __name__ == "__main__":
    main()
