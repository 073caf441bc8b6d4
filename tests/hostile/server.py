"""Forks for every command, so that what a file of strangers does stays there.

``python -m tests.hostile.server`` reads orders from stdin, a line of JSON each, and answers with a
line when its child has ended. A child has `LIMIT_SECONDS`, and a gigabyte beside what is imported.
"""

import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Of computing; a machine with much else to do may take longer for it, but not so long.
LIMIT_SECONDS, PATIENCE_SECONDS, LIMIT_BYTES = 10, 90.0, 2**30
HUNG = "hung"
MODULES = (
    "features_store.verbs.repair", "features_store.verbs.merge", "features_store.verbs.info",
    "features_store.verbs.reshape", "pipelines.cli.main",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (below 0 a signal, or `HUNG`), and what it printed."""

    code: int | str
    printed: str


class Server:
    """The test's end; a context manager.

    Args:
        root: of the code that is run.
    """

    def __init__(self, folder: Path, root: Path = Path(__file__).parents[2]) -> None:
        self._printed, self._root = folder / "printed.txt", root

    def __enter__(self) -> "Server":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._root,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def __call__(self, *arguments: object) -> Ended:
        """Run `cubereel`; or with a first argument such as `module:function`, that function."""
        order = {"arguments": list(map(str, arguments)), "printed": str(self._printed)}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the server ended"
        return Ended(json.loads(answer), self._printed.read_text(errors="replace"))


def main() -> None:
    """Serve until stdin ends."""
    for name in MODULES:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(_run(order["arguments"], order["printed"])), flush=True)


def _run(arguments: Sequence[str], printed: str) -> int | str:
    pid = os.fork()
    if pid == 0:
        os._exit(_child(arguments, printed))
    is_over = os.pidfd_open(pid)
    ready, _, _ = select.select([is_over], [], [], PATIENCE_SECONDS)
    os.close(is_over)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return HUNG if not ready or status == -signal.SIGXCPU else status


def _child(arguments: Sequence[str], printed: str) -> int:
    output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    limit_memory()
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_SECONDS, LIMIT_SECONDS + 1))
    try:
        if ":" in arguments[0]:
            module, name = arguments[0].split(":")
            getattr(importlib.import_module(module), name)(*arguments[1:])
            return 0
        sys.argv = ["cubereel", *arguments]
        importlib.import_module("pipelines.cli").main()
    except SystemExit as left:
        return int(left.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def limit_memory() -> None:
    """Let this process take a gigabyte more than it has, of which the disk is no part."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
