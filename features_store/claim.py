"""A unit of a plan that this process works on: by a lease, with notes of every attempt at it.

The lease saves work; that nothing is stored twice is the matter of `parts`.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from features_store.errors import DamageError
from features_store.format.outputs import append_lines, write_atomically
from features_store.format.regular_file import RegularFile
from features_store.format.safety import read_json
from features_store.leases import Lease, holder_of, is_silent
from features_store.locking import UNITS


class UnitClaim:
    """Work on one unit of a store's plan, beside other workers.

    Args:
        store: its folder, of which this process holds the shared lock.
        unit: its name, ``<id>-<generation>``.
        lease_seconds: as the plan says.

    Attributes:
        attempt: name of what this process writes of the unit: ``<id>.by.<token>-<generation>``.
    """

    def __init__(self, store: Path, unit: str, *, lease_seconds: float) -> None:
        self._store, self._unit = store, unit
        self._lease = Lease(store / UNITS / f"{unit}.lease", seconds=lease_seconds)
        self.attempt = new_attempt(unit)

    def take(self) -> bool:
        """Begin, if nobody else is at it."""
        if not self._lease.take():
            return False
        self._note("begun")
        return True

    def release(self) -> None:
        """End in good order, done or not."""
        if self._lease.is_held:
            with suppress(OSError):  # a full disk; then it looks like a worker that died
                self._note("ended")
        self._lease.release()

    @property
    def chunk_of_deaths(self) -> tuple[int, tuple[str, ...]]:
        """How many workers died at it, and which videos the last one of them had begun, if noted.

        One that is stopped for so long that its lease was taken counts as dead.
        """
        begun: tuple[str, ...] = ()
        at_death: tuple[str, ...] = ()
        num_deaths, is_open = 0, False
        for note in self.notes():
            if note.get("what") == "begun":
                num_deaths += is_open
                at_death = begun if is_open else at_death
                is_open, begun = True, ()
            elif note.get("what") == "chunk":
                begun = tuple(map(str, note.get("videos", ())))
            elif note.get("what") == "ended":
                is_open = False
        return num_deaths, at_death

    def notes(self) -> Iterator[dict[str, Any]]:
        """Yield what was noted of the attempts at it, oldest first."""
        yield from read_notes(self._store, self._unit)

    def note_chunk(self, video_ids: Sequence[str]) -> None:
        """Note which videos are begun now, so that the one that kills workers can be found."""
        self._note("chunk", videos=list(video_ids))

    def report(self) -> dict[str, Any] | None:
        """Return what became of the unit; None while it is not done."""
        return read_report(self._store, self._unit)

    def done(self, report: Mapping[str, object]) -> None:
        """Say what became of the unit: all its videos are stored, or have failed."""
        content = json.dumps({**report, **_here_and_now()}).encode()
        path = self._store / UNITS / f"{self._unit}.json"
        write_atomically(path, content, below=self._store)

    def _note(self, what: str, **more: object) -> None:
        line = json.dumps({"what": what, **_here_and_now(), **more}) + "\n"
        path = self._store / UNITS / f"{self._unit}.jsonl"
        append_lines(path, line.encode(), below=self._store)


def new_attempt(unit: str) -> str:
    """Return a name for what is written of a unit, that nobody else's has.

    >>> new_attempt("run.0007-1")[:12], new_attempt("run.0007-1")[-2:]
    ('run.0007.by.', '-1')
    """
    unit_id, _, generation = unit.rpartition("-")
    return f"{unit_id}.by.{secrets.token_hex(4)}-{generation}"


def read_notes(store: Path, unit: str) -> Iterator[dict[str, Any]]:
    """Yield what was noted of the attempts at a unit, without half a line of a killed worker."""
    path = store / UNITS / f"{unit}.jsonl"
    with suppress(FileNotFoundError), RegularFile(path) as file:
        for line in file.lines():
            with suppress(ValueError, RecursionError):
                note = json.loads(line)
                if isinstance(note, dict):
                    yield note


def read_report(store: Path, unit: str) -> dict[str, Any] | None:
    """Return what became of a unit; None while it is not done.

    Raises:
        DamageError: it cannot be read.
    """
    path = store / UNITS / f"{unit}.json"
    try:
        report = read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as err:
        raise DamageError(f"{path} cannot be read: {err}; remove it, to do the unit again") from err
    if not isinstance(report, dict):
        raise DamageError(f"{path} is no report of a unit; remove it, to do the unit again")
    return report


def unit_holder(store: Path, unit: str) -> str | None:
    """Say who works on a unit; None where nobody does, or gives no sign of life."""
    lease = store / UNITS / f"{unit}.lease"
    return None if is_silent(lease) else holder_of(lease)


def _here_and_now() -> dict[str, object]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"host": os.uname().nodename, "pid": os.getpid(), "time": now}
