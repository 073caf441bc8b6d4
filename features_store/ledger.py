"""The failure ledger: one line per failed attempt, appended and never rewritten."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from features_store.format.outputs import append_lines
from features_store.format.regular_file import RegularFile, check_own
from features_store.plain import from_plain, to_plain


@dataclass(frozen=True)
class Failure:
    """One failed attempt at one video.

    Attributes:
        reason: its class, one of `reasons.REASONS`; `error` is the message.
        outcome: ``failed``, or ``partial`` where the frames before the break were kept.
        num_frames: kept by the sampling and sound before the video broke off.
        media_bytes, media_mtime_ns: of the file that failed; None where there was none to ask.
        start_seconds, end_seconds: the time span that was asked for; None where none was.
    """

    video_id: str
    path: str
    stage: str
    reason: str
    error: str
    host: str
    time: str
    outcome: str = "failed"
    num_frames: int = 0
    media_bytes: int | None = None
    media_mtime_ns: int | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None


def new_failure(**said: Any) -> Failure:
    """Return a failure that happened here and now; see `Failure` for the fields."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Failure(**said, host=os.uname().nodename, time=now)


def append_failure(store: Path, unit: str, failure: Failure) -> None:
    """Append one line to ``failures/<unit>.jsonl``; each unit has a file of its own."""
    line = json.dumps(to_plain(failure)) + "\n"
    append_lines(store / "failures" / f"{unit}.jsonl", line.encode(), below=store)


def read_failures(store: Path) -> Iterator[Failure]:
    """Yield every failed attempt of every run, oldest run first.

    A line that a kill cut short, or that is of another kind, is passed over: the next run tries
    that video again.
    """
    check_own(store / "failures")
    for path in sorted((store / "failures").glob("*.jsonl")):
        yield from _read(path)


def read_unit_failures(store: Path, unit: str) -> Iterator[Failure]:
    """Yield the failed attempts at videos of one unit, oldest first."""
    check_own(store / "failures")
    with suppress(FileNotFoundError):
        yield from _read(store / "failures" / f"{unit}.jsonl")


def _read(path: Path) -> Iterator[Failure]:
    with RegularFile(path) as file:
        for line in file.lines():
            failure = _parse(line)
            if failure is not None:
                yield failure


def _parse(line: str) -> Failure | None:
    try:
        return from_plain(Failure, json.loads(line))
    except (ValueError, RecursionError):
        return None
