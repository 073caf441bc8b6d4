"""`log.jsonl` of a run folder: one line for each fit that is done, in the order they were heard of.

A fit is done when its record is there; the log is what people and programs watch meanwhile. A fit
whose run was ended before it could say so gets its line from the next run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from features_store.errors import ContractError
from features_store.format.inputs import open_regular, parse_json
from features_store.format.outputs import append_lines, cut_torn_line
from train.protocol.jobs import FitJob
from train.protocol.run_folder import RunFolder
from train.protocol.runs import Fit

NAME = "log.jsonl"
MAX_LOG_BYTES = 2**28
_KEYS = ("head", "fit")


class RunLog:
    """The log of a run folder; written by the process that hands out the fits, and by no other."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._path = folder, folder.path / NAME
        cut_torn_line(self._path, below=folder.path)
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
            append_lines(self._path, "".join(lines).encode(), below=self._folder.path)


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
    """Yield the lines of a run's log, oldest first; what is no line of it is passed over.

    Raises:
        ContractError: the log is no file that can be read.
    """
    path = run / NAME
    try:
        with open_regular(path, most_bytes=MAX_LOG_BYTES) as file:
            for text in file:
                with suppress(ValueError):
                    line = parse_json(text)
                    if isinstance(line, dict) and all(type(line.get(key)) is str for key in _KEYS):
                        yield line
    except FileNotFoundError:
        return
    except (OSError, ValueError) as err:
        raise ContractError(f"{path} cannot be read ({err}); remove it") from err


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
