"""The test's end of the fork server: compile what is preloaded, start, ask for runs."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.crash.runs import Kill, Outcome

HERE = Path(__file__).parent


class ForkServer:
    """Runs scenarios in processes that may be killed; a context manager.

    The test is skipped where there is no C compiler.

    Args:
        folder: for the library and for what the runs print.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            pytest.skip("no C compiler for the library that counts write calls")
        self._library = folder / "preload.so"
        self._printed = folder / "stderr.txt"
        self._printed_before = 0
        source = HERE / "preload.c"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", self._library, source, "-ldl"], check=True
        )

    def __enter__(self) -> "ForkServer":
        with self._printed.open("a") as printed:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.fork_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                text=True,
                cwd=HERE.parents[1],
                env={**os.environ, "LD_PRELOAD": str(self._library), "OMP_NUM_THREADS": "1"},
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, scenario: str, *, inputs: Path, store: Path, kill: Kill) -> Outcome:
        """Run a scenario on a store and return how that ended."""
        order = {
            "scenario": scenario,
            "inputs": str(inputs),
            "store": str(store),
            "kill": asdict(kill),
        }
        self._printed_before = self._printed.stat().st_size
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, f"the fork server ended: {self.printed}"
        return Outcome(**json.loads(answer))

    @property
    def printed(self) -> str:
        """What the last run printed."""
        return self._printed.read_bytes()[self._printed_before :].decode()
