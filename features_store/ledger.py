"""The failure ledger: one line per failed attempt, appended and never rewritten."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from features_store.safety import check_own


@dataclass(frozen=True)
class Failure:
    """One failed attempt at one video; `reason` is its class, `error` the message."""

    video_id: str
    path: str
    stage: str
    reason: str
    error: str
    host: str
    time: str


def new_failure(*, video_id: str, path: str, stage: str, reason: str, error: str) -> Failure:
    """Return a failure that happened here and now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Failure(video_id, path, stage, reason, error, os.uname().nodename, now)


def append_failure(store: Path, run_id: str, failure: Failure) -> None:
    """Append one line to ``failures/<run>.jsonl``."""
    folder = store / "failures"
    folder.mkdir(exist_ok=True)
    with (folder / f"{run_id}.jsonl").open("a") as file:
        file.write(json.dumps(asdict(failure)) + "\n")


def read_failures(store: Path) -> Iterator[Failure]:
    """Yield every failed attempt of every run, oldest run first.

    A line that a kill cut short is passed over: the next run tries that video again.
    """
    check_own(store / "failures")
    for path in sorted((store / "failures").glob("*.jsonl")):
        check_own(path)
        for line in path.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError):
                yield Failure(**json.loads(line))
