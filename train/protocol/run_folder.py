"""A run folder on disk: what was asked for, and every fit that is done, so that a run resumes.

    run.json                       the data, the splits and the versions; other ones are refused
    fits/HEAD/row.json             the head's options, layers and training configuration
    fits/HEAD/fold0-….json         one fit: probabilities, losses, seconds
    checkpoints/HEAD/fold0-seed0   weights of a tested fit, written before its record

A fit is done when its record is there; records are written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from features_store.errors import ContractError, UsageError
from features_store.format.inputs import parse_json, read_file
from features_store.format.outputs import make_folder, remove_leftovers, write_atomically
from train.fitting.state import Candidate
from train.protocol.jobs import FitJob
from train.protocol.runs import Fit
from train.protocol.table import folder_name

SHOWN = 5  # differences in a message
SHOWN_SIGNS = 60  # of a value

MAX_RECORD_BYTES, MAX_RECORD_VALUES = 2**30, 2**25  # probabilities of 40,000 videos of 800 classes


def claim(path: Path, document: Mapping[str, Any], *, below: Path) -> None:
    """Write what a run or a head's fits are made from, or compare it with what stands there.

    Args:
        below: the run folder.

    Raises:
        UsageError: fits of something else lie there, naming each field that differs.
    """
    below.mkdir(parents=True, exist_ok=True)
    make_folder(path.parent, below=below)
    remove_leftovers(path.parent)
    asked = json.loads(json.dumps(document))
    if path.exists():
        there = read_document(path)
        differ = [
            f"{name}: there {_short(one)}, asked for {_short(other)}"
            for name, one, other in differences(there, asked)
        ]
        if differ:
            more = f" and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
            raise UsageError(
                f"{path.parent} holds fits of another run; {'; '.join(differ[:SHOWN])}{more}; "
                "give `out` another folder"
            )
        return
    write_atomically(path, json.dumps(asked, indent=1).encode(), below=below)


@dataclass(frozen=True)
class ResultSelection:
    """What validation chose in a fold."""

    candidate: Candidate
    epochs: int | None


@dataclass(frozen=True)
class ResultSeed:
    """Of one seed, labels down, predictions across; None where videos may have several classes."""

    confusion: list[list[int]] | None = None


@dataclass(frozen=True)
class ResultRow:
    """A head of `results.json`, as far as it is read again."""

    head: str
    seeds: list[ResultSeed]
    selections: list[ResultSelection]


@dataclass(frozen=True)
class ResultConfig:
    """What the whole run was told."""

    multi_label: bool


@dataclass(frozen=True)
class Results:
    """`results.json`, likewise."""

    heads: list[ResultRow]
    classes: list[str]
    config: ResultConfig


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_SIGNS else f"{text[:SHOWN_SIGNS]}…"


def differences(one: Any, other: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield name and both values of every field in which two documents differ.

    >>> list(differences({"config": {"lr": [1, 2]}, "n": 1}, {"config": {"lr": [1, 3]}, "n": 1}))
    [('config.lr[1]', 2, 3)]
    """
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            where = f"{name}.{key}" if name else str(key)
            yield from differences(one.get(key), other.get(key), where)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{name}[{place}]")
    elif one != other:
        yield name, one, other


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
        if not path.exists():
            return None
        fitted: _Fitted = understood(_Fitted, read_document(path), path, "row of a run")
        return fitted.config.epochs

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
        write_atomically(self.record(job), json.dumps(document).encode(), below=self.path)

    def results(self) -> Results | None:
        """Return the table that was written last; None where there is none.

        Raises:
            ContractError: the file is none.
        """
        path = self.path / "results.json"
        if not path.exists():
            return None
        table: Results = understood(Results, read_document(path), path, "table of results")
        size = len(table.classes)
        for row in table.heads:
            for counts in (seed.confusion for seed in row.seeds):
                if counts is not None and {len(counts), *map(len, counts)} != {size}:
                    raise ContractError(
                        f"{path} is no table of results (the confusions of {row.head!r} are not "
                        f"of {size} classes); remove it and run again"
                    )
        return table

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
    record = understood(_Record, read_document(path), path, "record of a fit")
    try:
        probs = np.array(record.probs, float)
        _, _ = probs.shape  # a ValueError unless it has videos and classes
    except ValueError as err:
        raise ContractError(f"{path} is no record of a fit ({err}); remove it") from err
    most = len(record.curve) or record.epochs
    if not (record.train_losses and 1 <= record.epochs <= most):
        raise ContractError(
            f"{path} is no record of a fit (it has {len(record.train_losses)} losses, "
            f"{len(record.curve)} scores and epochs {record.epochs}); remove it"
        )
    return Fit(**vars(record) | {"probs": probs})


@dataclass(frozen=True)
class _Config:
    epochs: int


@dataclass(frozen=True)
class _Fitted:
    """What a head's fits are made from, as far as it is read again here."""

    config: _Config


@dataclass(frozen=True)
class _Record:
    """`Fit` as JSON has it."""

    probs: list[list[float]]
    train_losses: list[float]
    num_parameters: int
    seconds: float
    curve: list[tuple[float, float]]
    epochs: int
    map_means: dict[str, list[float]] = field(default_factory=dict)


def understood(kind: Any, document: Any, path: Path, what: str) -> Any:
    """Return the value of a type that a document of a run describes; further fields are left out.

    Args:
        kind: also such as ``list[Candidate]``.

    Raises:
        ContractError: it describes none.
    """
    from msgspec import ValidationError, convert

    try:
        return convert(document, kind)
    except ValidationError as err:
        raise ContractError(f"{path} is no {what} ({err}); remove it and run again") from err


def read_document(path: Path) -> dict[str, Any]:
    """Return what a JSON file of a run says; raise `ContractError` if it cannot be read."""
    try:
        content = read_file(path, most_bytes=MAX_RECORD_BYTES)
        parsed = parse_json(content, may_be_nan=True, most_values=MAX_RECORD_VALUES)
        document: dict[str, Any] = dict(parsed)
    except (OSError, ValueError, TypeError) as err:
        raise ContractError(f"{path} cannot be read ({err}); remove it to start anew") from err
    return document
