"""Running the command line within the test's process, and as a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli import main as cli_main


class Command:
    """Calls `cubereel` and keeps what it printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        """Return the exit code."""
        self._monkeypatch.setattr(sys, "argv", ["cubereel", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            cli_main()
        self.out, self.err = self._capfd.readouterr()
        return int(left.value.code or 0)


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start `cubereel` as a process."""
    program = Path(sys.executable).with_name("cubereel")
    return subprocess.Popen(
        [str(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
