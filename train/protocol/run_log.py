"""`log.jsonl` of a run folder: a line for each fit that is done, as they came."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from train.protocol.jobs import FitJob
from train.protocol.run_folder import RunFolder
from train.protocol.runs import Fit

NAME = "log.jsonl"


def log_fits(folder: RunFolder, jobs: Sequence[FitJob]) -> None:
    """Append what came of jobs that are done; a line is written in one go."""
    lines = "".join(json.dumps(_line(job, folder.read(job))) + "\n" for job in jobs)
    with (folder.path / NAME).open("a", encoding="utf-8") as file:
        file.write(lines)


def _line(job: FitJob, fit: Fit) -> dict[str, Any]:
    best = fit.curve[fit.epochs - 1] if fit.curve else (None, None)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "head": job.head,
        "fold": job.fold,
        "inner": job.inner,
        "seed": job.seed,
        **asdict(job.candidate),
        "epochs": fit.epochs,
        "train_loss": fit.train_losses[-1],
        "validation_score": best[0],
        "validation_loss": best[1],
        "seconds": round(fit.seconds, 3),
    }
