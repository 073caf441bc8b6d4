"""`log.jsonl` of a run folder: one line for each fit that is done, in the order they were heard of.

A fit is done when its record is there; the log is what people and programs watch meanwhile. A fit
whose run was ended before it could say so gets its line from the next run.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from train.protocol.jobs import FitJob
from train.protocol.run_folder import RunFolder
from train.protocol.runs import Fit

NAME = "log.jsonl"


class RunLog:
    """The log of a run folder; written by the process that hands out the fits, and by no other."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._path = folder, folder.path / NAME
        _cut_torn_line(self._path)
        self._noted = {(line["head"], line["fit"]) for line in read_log(folder.path)}

    def note(self, jobs: Iterable[FitJob]) -> None:
        """Append a line for each of the jobs that is done and has none."""
        lines = []
        for job in jobs:
            if (job.head, job.name) in self._noted or not self._folder.record(job).exists():
                continue
            when = self._folder.record(job).stat().st_mtime
            lines.append(json.dumps(log_line(job, self._folder.read(job), when)) + "\n")
            self._noted.add((job.head, job.name))
        if lines:
            _append(self._path, "".join(lines).encode())


def log_line(job: FitJob, fit: Fit, when: float) -> dict[str, Any]:
    """Return what the log says of a fit; a number that is not finite is null.

    Args:
        when: seconds since 1970 at which its record was written.
    """
    score = fit.curve[fit.epochs - 1][0] if fit.curve else None
    return {
        "time": datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds"),
        "head": job.head,
        "fit": job.name,
        "fold": job.fold,
        "inner": job.inner,
        "seed": job.seed,
        "candidate": asdict(job.candidate),
        "epochs": fit.epochs,
        "seconds": round(fit.seconds, 3),
        "train_loss": _finite(fit.train_losses[-1]),
        "validation_score": None if score is None else _finite(score),
    }


def read_log(run: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a run's log, oldest first; what is no line of it is passed over."""
    path = run / NAME
    if not path.exists():
        return
    with path.open(errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and {"head", "fit"} <= line.keys():
                yield line


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _append(path: Path, content: bytes) -> None:
    """Append whole lines in one go, so that who reads meanwhile sees no part of one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def _cut_torn_line(path: Path) -> None:
    """Take away the part of a line that a disk that was full left at the end."""
    if path.exists():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
