"""A command in a fork of the test's process, which may take a gigabyte more and no endless time."""

import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

from pipelines.cli import main

MOST_BYTES = 2**30
GUARD_SECONDS = 60  # a hang is ended; 10 s on a machine that is not shared


class Done(NamedTuple):
    """How a command ended; a code below 0 is the signal that killed it."""

    code: int
    out: str
    err: str


def run_limited(folder: Path, *arguments: object) -> Done:
    """Run `cubereel`; texts go through files in `folder`."""
    said = folder / ".out", folder / ".err"
    pid = os.fork()
    if pid == 0:
        _become(said, [str(each) for each in arguments])
    ended = time.monotonic() + GUARD_SECONDS
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            out, err = (path.read_text(errors="replace") for path in said)
            return Done(os.waitstatus_to_exitcode(status), out, err)
        if time.monotonic() > ended:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _become(said: tuple[Path, Path], arguments: list[str]) -> None:
    code = 99
    try:
        for number, path in zip((1, 2), said, strict=True):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (
            open(number, "w", buffering=1, closefd=False)  # noqa: SIM115
            for number in (1, 2)
        )
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        sys.argv = ["cubereel", *arguments]
        main()
    except SystemExit as err:
        code = int(err.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def assert_refused(done: Done, *codes: int) -> None:
    """Assert that a command said what is wrong, and ended with one of the documented codes."""
    assert done.code in codes, done
    assert "Traceback" not in done.out + done.err
    assert "\nerror: " in f"\n{done.err}", done
