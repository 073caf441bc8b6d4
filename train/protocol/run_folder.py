"""A run folder on disk: what was asked for, and every fit that is done, so that a run resumes.

    run.json                       the data, the splits and the versions; other ones are refused
    fits/HEAD/row.json             the head's options, layers and training configuration
    fits/HEAD/fold0-….json         one fit: probabilities, losses, seconds
    checkpoints/HEAD/fold0-seed0   weights of a tested fit, written before its record

A fit is done when its record is there; records are written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from features_store.errors import ContractError, UsageError
from features_store.format.disk import remove_leftovers, write_atomically
from train.protocol.grid import folder_name
from train.protocol.jobs import FitJob
from train.protocol.runs import Fit


def claim(path: Path, document: Mapping[str, Any]) -> None:
    """Write what a run or a head's fits are made from, or compare it with what stands there.

    Raises:
        UsageError: fits of something else lie there, naming each field that differs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    asked = json.loads(json.dumps(document))
    if path.exists():
        there = read_document(path)
        differ = [
            f"{key}: there {there.get(key)!r}, asked for {asked.get(key)!r}"
            for key in sorted({*there, *asked})
            if there.get(key) != asked.get(key)
        ]
        if differ:
            raise UsageError(
                f"{path.parent} holds fits of another run; {'; '.join(differ)}; "
                "give `out` another folder"
            )
        return
    write_atomically(path, json.dumps(asked, indent=1).encode())


class RunFolder:
    """The jobs of a run that are done, and what came of them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def row(self, head: str) -> Path:
        """Return where it stands what the fits of a head are made from."""
        return self.path / "fits" / folder_name(head) / "row.json"

    def epochs(self, head: str) -> int | None:
        """Return the epochs that fits of a head have by what stands there; None for nothing yet."""
        path = self.row(head)
        return int(read_document(path)["config"]["epochs"]) if path.exists() else None

    def record(self, job: FitJob) -> Path:
        """Return where a job's fit is kept."""
        return self.path / "fits" / folder_name(job.head) / f"{job.name}.json"

    def checkpoint(self, job: FitJob) -> Path:
        """Return where the weights of a tested fit are kept; a suffix is still missing."""
        place = f"fold{job.fold}-seed{job.seed}"
        return self.path / "checkpoints" / folder_name(job.head) / place

    def missing(self, jobs: Iterable[FitJob]) -> list[FitJob]:
        """Return the jobs that are not done."""
        return [job for job in jobs if not self.record(job).exists()]

    def keep(self, job: FitJob, fit: Fit) -> None:
        """Say that a job is done, after whatever else is to be kept of it."""
        document = fit.__dict__ | {"probs": fit.probs.tolist()}
        write_atomically(self.record(job), json.dumps(document).encode())

    def results(self) -> dict[str, int]:
        """Return the heads of the table that was written last, and how many seeds each has."""
        path = self.path / "results.json"
        if not path.exists():
            return {}
        try:
            return {row["head"]: len(row["seeds"]) for row in read_document(path)["heads"]}
        except (KeyError, TypeError) as err:
            raise ContractError(f"{path} is no table of results ({err}); remove it") from err

    def read(self, job: FitJob) -> Fit:
        """Return the fit of a job that is done.

        Raises:
            ContractError: there is none, or the file is none.
        """
        return read_fit(self.record(job))

    def records(self) -> dict[str, list[Path]]:
        """Return the records of all fits that are done, by the folder of their head."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self.path.glob("fits/*/fold*.json")):
            found.setdefault(path.parent.name, []).append(path)
        return found


def read_fit(path: Path) -> Fit:
    """Return the fit of a record; raise `ContractError` if it is none."""
    document = read_document(path)
    try:
        probs = np.array(document.pop("probs"), float)
        _, _ = probs.shape  # a ValueError unless it has videos and classes
        curve = [(float(score), float(loss)) for score, loss in document.pop("curve")]
        return Fit(probs, curve=curve, **document)
    except (KeyError, TypeError, ValueError) as err:
        raise ContractError(f"{path} is no record of a fit ({err}); remove it") from err


def read_document(path: Path) -> dict[str, Any]:
    """Return what a JSON file of a run says; raise `ContractError` if it cannot be read."""
    try:
        document: dict[str, Any] = dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as err:
        raise ContractError(f"{path} cannot be read ({err}); remove it to start anew") from err
    return document
