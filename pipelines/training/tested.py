"""A run folder read again: what its heads said of its test videos, and what those are.

Videos, groups and labels are those of `predictions.csv`, probabilities those of the fits' records:
the file has them with six digits only.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from features_store.errors import ContractError
from features_store.format.inputs import open_regular
from features_store.labels import split_label
from features_store.paths import RUN
from pipelines.training.spreadsheets import unquoted
from train.data.labels import Labels
from train.fitting.state import Candidate
from train.fitting.tasks import MULTI_LABEL, SINGLE_LABEL, Task
from train.protocol.jobs import FitJob
from train.protocol.run_folder import ResultRow, RunFolder, read_document


@dataclass(frozen=True)
class TestedVideo:
    """A test video, with its label as a manifest says it.

    Attributes:
        group: the first test video of its set of ties; sets are numbered anew in each store.
    """

    video_id: str
    fold: int
    group: str
    label: str


@dataclass(frozen=True)
class TestedHead:
    """A row of a table: candidate and epochs tested in each fold, and with how many seeds."""

    label: str
    chosen: list[tuple[Candidate, int | None]]
    num_seeds: int


@dataclass(frozen=True)
class TestedRun:
    """A run folder with a table.

    Attributes:
        identity: what all its fits have in common, as `run.json` says.
        videos: by fold, in the order in which fits were asked about them.
    """

    path: Path
    identity: dict[str, Any]
    classes: list[str]
    task: Task
    heads: dict[str, TestedHead]
    videos: list[TestedVideo]

    @classmethod
    def read(cls, path: Path) -> TestedRun:
        """Return what a folder holds.

        Raises:
            ContractError: there is no table, as where a run was stopped, or a file is damaged.
        """
        results = RUN.require(path) / "results.json"
        if not results.is_file():
            raise ContractError(
                f"{path} has no results.json: its run was stopped; run the same 'cubereel train' "
                "again to finish it"
            )
        table = RunFolder(path).results()
        if table is None or not table.heads:
            raise ContractError(f"{results} is no table of results; remove it and run again")
        heads = [_tested_head(row) for row in table.heads]
        videos = _read_videos(path / "predictions.csv", head=heads[0].label)
        task = MULTI_LABEL if table.config.multi_label else SINGLE_LABEL
        for video in videos:
            names = split_label(video.label) if task.multi_label else [video.label]
            if unknown := [name for name in names if name not in table.classes]:
                raise ContractError(
                    f"{path / 'predictions.csv'}: {unknown[0]!r}, a label of {video.video_id!r}, "
                    "is no class of results.json; remove both and run again"
                )
        return cls(
            path=path,
            identity=read_document(path / "run.json"),
            classes=table.classes,
            task=task,
            heads={head.label: head for head in heads},
            videos=videos,
        )

    def labels(self, videos: Sequence[TestedVideo]) -> Labels:
        """Return the labels of videos in the classes of this run."""
        position = {name: i for i, name in enumerate(self.classes)}
        said = [split_label(v.label) if self.task.multi_label else [v.label] for v in videos]
        return self.task.encode([[position[name] for name in each] for each in said],
                                len(self.classes))  # fmt: skip

    def probs(self, head: str, videos: Sequence[TestedVideo]) -> np.ndarray:
        """Return what a head said of test videos, in their order: (seeds, n, classes).

        Raises:
            ContractError: a record is missing, or is not of these test videos.
        """
        row, folder = self.heads[head], RunFolder(self.path)
        tested: dict[tuple[int, str], np.ndarray] = {}
        for fold, (candidate, epochs) in enumerate(row.chosen):
            ids = [video.video_id for video in self.videos if video.fold == fold]
            for seed in range(row.num_seeds):
                job = FitJob(head, fold, None, candidate, seed, epochs)
                probs = folder.read(job).probs
                if probs.shape != (len(ids), len(self.classes)):
                    raise ContractError(
                        f"{folder.record(job)} is of {probs.shape} videos and classes, the table "
                        f"of {(len(ids), len(self.classes))}; run the same command again"
                    )
                if not ((probs >= 0) & (probs <= 1)).all():  # NaN is neither
                    raise ContractError(
                        f"{folder.record(job)} has a probability that is not between 0 and 1; "
                        "remove it and run the same command again"
                    )
                tested |= {(seed, name): row for name, row in zip(ids, probs, strict=True)}
        wanted = [(s, v.video_id) for s in range(row.num_seeds) for v in videos]
        if missing := next((each for each in wanted if each not in tested), None):
            raise ContractError(
                f"{self.path / 'results.json'} has no fold of head {head!r} that tests "
                f"{missing[1]!r}; remove it and run the same command again"
            )
        return np.array([[tested[s, v.video_id] for v in videos] for s in range(row.num_seeds)])


def _tested_head(row: ResultRow) -> TestedHead:
    chosen = [(each.candidate, each.epochs) for each in row.selections]
    return TestedHead(row.head, chosen, len(row.seeds))


MAX_CSV_BYTES = 2**32  # read line by line
_READ = ("head", "seed", "video_id", "fold", "set", "label")


def _read_videos(path: Path, *, head: str) -> list[TestedVideo]:
    """Return the test videos, as the lines of a head's first seed have them."""
    try:
        with TextIOWrapper(
            open_regular(path, most_bytes=MAX_CSV_BYTES), "utf-8", newline=""
        ) as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            places = [header.index(name) for name in _READ]
            rows = [[unquoted(line[i]) for i in places] for line in lines]
        rows = [row for row in rows if row[:2] == [head, "0"]]
        first: dict[str, str] = {}
        for _, _, video_id, _, ties, _ in sorted(rows, key=itemgetter(2)):
            first.setdefault(ties, video_id)
        videos = [
            TestedVideo(video_id, int(fold), first[ties], label)
            for _, _, video_id, fold, ties, label in rows
        ]
    except (OSError, IndexError, ValueError, csv.Error) as err:
        raise ContractError(
            f"{path} cannot be read ({err!r}); run the same command again to write it anew"
        ) from err
    if not videos:
        raise ContractError(
            f"{path} has no line of {head!r}, which is in results.json; run the same command again "
            "to write it anew"
        )
    return videos
