"""Work that takes no time to set up, for tests of executors."""

import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from features_store.errors import ContractError, SpecMismatchError, UsageError
from pipelines.executors.work import Work


@dataclass(frozen=True)
class Toy:
    """Settings.

    Attributes:
        folder: in which every job that is begun leaves a file.
        fails: what the job of that number does.
    """

    folder: str
    fails: str = ""
    at: int = -1
    seconds: float = 0.0


@dataclass(frozen=True)
class Number:
    value: int


@dataclass(frozen=True)
class Square:
    value: int
    square: int
    pid: int


@dataclass(frozen=True)
class Begun:
    value: int


@dataclass(frozen=True)
class Left:
    """What was in work when the process was asked to stop."""

    value: int


class ToyWork(Work):
    Settings, Job, Report, Events = Toy, Number, Square, (Begun, Left)

    def __init__(self, settings):
        self._settings = settings

    def run(self, jobs, say):
        for job in jobs:
            say(Begun(job.value))
            place = Path(self._settings.folder) / f"{job.value}"
            is_there, is_it = place.exists(), job.value == self._settings.at
            place.touch(exist_ok=self._settings.fails.startswith("dies"))
            with place.open("a") as file:
                file.write("begun\n")
            if is_it and not (is_there and self._settings.fails == "dies once"):
                _fail(self._settings.fails)
            try:
                time.sleep(self._settings.seconds)
            except BaseException:
                say(Left(job.value))
                raise
            yield Square(job.value, job.value**2, os.getpid())


def _fail(how):
    if how.startswith("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "logs":
        logging.getLogger("cubereel").warning("a line with %d words", 5)
        return
    errors = {
        "usage": UsageError("wrong"),
        "spec": SpecMismatchError("another spec"),
        "contract": ContractError("broken"),
        "disk": OSError(28, "No space left on device"),
        "memory": MemoryError("no memory"),
        "bug": ZeroDivisionError("a bug"),
    }
    raise errors[how]
