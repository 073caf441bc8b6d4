"""A run folder read again: what its heads said of its test videos, and what those are.

Videos, groups and labels are those of `predictions.csv`, probabilities those of the fits' records:
the file has them with six digits only.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features_store.errors import ContractError
from features_store.labels import split_label
from train.data.labels import Labels
from train.fitting.state import Candidate
from train.fitting.tasks import MULTI_LABEL, SINGLE_LABEL, Task
from train.protocol.jobs import FitJob
from train.protocol.run_folder import RunFolder, read_document


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
        results = path / "results.json"
        if not results.is_file():
            raise ContractError(
                f"{path} has no results.json: it is no run folder of `cubereel train`, or its run "
                "was stopped; run the same command again to finish it"
            )
        document = read_document(results)
        try:
            heads = [_tested_head(row) for row in document["heads"]]
            return cls(
                path=path,
                identity=read_document(path / "run.json"),
                classes=list(document["classes"]),
                task=MULTI_LABEL if document["config"]["multi_label"] else SINGLE_LABEL,
                heads={head.label: head for head in heads},
                videos=_read_videos(path / "predictions.csv", head=heads[0].label),
            )
        except (KeyError, TypeError, IndexError) as err:
            raise ContractError(
                f"{results} is no table of results ({err!r}); remove it and run again"
            ) from err

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
                tested |= {(seed, name): row for name, row in zip(ids, probs, strict=True)}
        return np.array([[tested[s, v.video_id] for v in videos] for s in range(row.num_seeds)])


def _tested_head(row: dict[str, Any]) -> TestedHead:
    chosen = [(Candidate(**each["candidate"]), each["epochs"]) for each in row["selections"]]
    return TestedHead(row["head"], chosen, len(row["seeds"]))


def _read_videos(path: Path, *, head: str) -> list[TestedVideo]:
    """Return the test videos, as the lines of a head's first seed have them."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [r for r in csv.DictReader(file) if (r["head"], r["seed"]) == (head, "0")]
        first: dict[str, str] = {}
        for row in sorted(rows, key=lambda row: row["video_id"]):
            first.setdefault(row["set"], row["video_id"])
        videos = [
            TestedVideo(r["video_id"], int(r["fold"]), first[r["set"]], r["label"]) for r in rows
        ]
    except (OSError, KeyError, ValueError, csv.Error) as err:
        raise ContractError(
            f"{path} cannot be read ({err!r}); run the same command again to write it anew"
        ) from err
    if not videos:
        raise ContractError(
            f"{path} has no line of {head!r}, which is in results.json; run the same command again "
            "to write it anew"
        )
    return videos
