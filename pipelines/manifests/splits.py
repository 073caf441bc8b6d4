"""`cubereel manifest split` and `folds`: which videos are for testing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features_store.errors import UsageError
from features_store.manifest import write_splits
from pipelines.manifests.described import Described
from train.data.labels import as_table, missing_classes
from train.fitting.tasks import MULTI_LABEL, SINGLE_LABEL
from train.protocol.labelled import LabelledRows, label_rows, warn_of_groups
from train.protocol.sides import choose_sides
from train.protocol.splits import make_folds, split_by_manifest, split_hash

logger = logging.getLogger("cubereel")


@dataclass(frozen=True)
class SideCounts:
    """What lies on one side of a split; `labels` counts the videos that have each class."""

    videos: int
    groups: int
    labels: dict[str, int]


@dataclass(frozen=True)
class SplitReport:
    """A split that was chosen; `split_hash` is what `train` calls it once it is written."""

    manifest: str
    sides: dict[str, SideCounts]
    split_hash: str
    written: bool


@dataclass(frozen=True)
class Fold:
    """The test videos of one fold, and what `train` calls its split."""

    test: SideCounts
    split_hash: str


@dataclass(frozen=True)
class FoldsReport:
    """Folds that together test every labelled video once."""

    manifest: str
    seed: int
    folds: list[Fold]


def split(
    path: Path,
    *,
    test: float,
    validation: float = 0.0,
    seed: int = 0,
    write: bool = False,
    replace: bool = False,
    multi_label: bool = False,
) -> SplitReport:
    """Choose sides for every labelled video; `write` fills the column ``split`` with them.

    No group, file or content is on two sides, and classes are spread as evenly as that allows.

    Raises:
        UsageError: shares that leave nothing, or a filled column without `replace`.
        ContractError: too few labels or groups.
    """
    said = Described(path)
    filled = sum(1 for row in said.rows if row.split)
    if write and filled and not replace:
        raise UsageError(
            f"{said.manifest} says a split for {filled} of {len(said.rows)} rows already; "
            "give `replace` to write another"
        )
    known = _labelled(said, multi_label=multi_label)
    shares = {"train": round(1 - test - validation, 9), "val": validation, "test": test}
    if validation == 0:
        del shares["val"]
    sides = choose_sides(
        known.labels, np.unique(known.groups, return_inverse=True)[1], shares=shares, seed=seed
    )
    chosen = split_by_manifest(sides, known.labels, known.groups)
    report = SplitReport(
        manifest=str(said.manifest),
        sides={name: _count(known, np.flatnonzero(np.array(sides) == name)) for name in shares},
        split_hash=split_hash(known.ids, chosen),
        written=write,
    )
    for name, side in report.sides.items():
        if lacking := [label for label, count in side.labels.items() if count == 0]:
            logger.warning("%s has no video of: %s", name, ", ".join(lacking))
    if write:
        side_of = dict(zip(known.ids, sides, strict=True))
        write_splits(said.manifest, [side_of.get(row.video_id, "") for row in said.rows])
    return report


def folds(path: Path, *, num_folds: int, seed: int = 0, multi_label: bool = False) -> FoldsReport:
    """Return the folds that `train` uses for these videos, with one round of validation."""
    said = Described(path)
    known = _labelled(said, multi_label=multi_label)
    result = []
    for number, fold in enumerate(
        make_folds(known.labels, known.groups, num_folds=num_folds, seed=seed)
    ):
        result.append(Fold(_count(known, fold.test), split_hash(known.ids, fold)))
        if lacking := missing_classes(known.labels, fold.test, known.classes):
            logger.warning("fold %d has no test video of: %s", number, ", ".join(lacking))
    return FoldsReport(str(said.manifest), seed, result)


def _labelled(said: Described, *, multi_label: bool) -> LabelledRows:
    """Return the labelled videos; say on stderr what is not said of the others."""
    known = label_rows(
        said.videos,
        media=said.media,
        manifest=said.manifest,
        num_videos=said.num_videos,
        task=MULTI_LABEL if multi_label else SINGLE_LABEL,
    )
    said.warn_of_absent()
    if unlabelled := said.num_videos - len(known.rows):
        logger.warning("%d videos have no label and are left out", unlabelled)
    warn_of_groups(known.rows)
    return known


def _count(known: LabelledRows, positions: np.ndarray) -> SideCounts:
    per_class = as_table(known.labels[positions], len(known.classes)).sum(0).tolist()
    return SideCounts(
        videos=len(positions),
        groups=len(np.unique(known.groups[positions])),
        labels=dict(zip(known.classes, per_class, strict=True)),
    )
