"""What an executor and its worker processes tell each other."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

from features_store import errors
from features_store.errors import CubereelError, MachineError


@dataclass(frozen=True)
class Begin:
    """The first message: what work, as ``package.module:Class``, with which settings.

    Attributes:
        path: where Python looks for modules, as in the parent.
    """

    work: str
    settings: Any
    path: tuple[str, ...]


@dataclass(frozen=True)
class Assigned:
    """One job."""

    job: Any


@dataclass(frozen=True)
class NoMore:
    """The answer to `Wanted` when there is no job."""


@dataclass(frozen=True)
class Wanted:
    """There is time for another job."""


@dataclass(frozen=True)
class Reported:
    """A job is done."""

    report: Any


@dataclass(frozen=True)
class Said:
    """Something happened: the name of its type, and the event."""

    kind: str
    event: Any


@dataclass(frozen=True)
class Logged:
    """A line of the log."""

    level: int
    text: str


@dataclass(frozen=True)
class Idle:
    """All jobs are done that were assigned."""


@dataclass(frozen=True)
class Failed:
    """The work cannot go on: the name of the error's type, its text, its number if it has one."""

    kind: str
    text: str
    number: int = 0

    @classmethod
    def by(cls, error: Exception) -> Failed:
        """Return what is said of an error; the traceback of an unexpected one goes to stderr."""
        if isinstance(error, OSError) and error.errno is not None:
            return cls("OSError", str(error), error.errno)
        if not isinstance(error, CubereelError | MemoryError):
            traceback.print_exception(error)
        return cls(type(error).__name__, str(error))

    @property
    def error(self) -> Exception:
        """The same error, to be raised here."""
        if self.kind == "OSError":
            return OSError(self.number, self.text)
        if self.kind == "MemoryError":
            return MemoryError(self.text)
        kind = getattr(errors, self.kind, None)
        if isinstance(kind, type) and issubclass(kind, CubereelError):
            return MachineError(self.text) if kind is errors.DecodeError else kind(self.text)
        return RuntimeError(f"a worker process failed: {self.kind}: {self.text}")


ToWorker = Begin | Assigned | NoMore
FromWorker = Wanted | Reported | Said | Logged | Idle | Failed
