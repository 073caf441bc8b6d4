"""`cubereel manifest leaks` and `counts`: what a manifest says, added up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from features_store.errors import ContractError
from features_store.labels import classes_of
from features_store.manifest import ManifestRow, side_of
from pipelines.manifests.described import Described
from train.protocol.labelled import group_names, warn_of_groups
from train.protocol.ties import Leak, find_leaks


@dataclass(frozen=True)
class LeaksReport:
    """Ties between the sides of the column ``split``.

    Attributes:
        videos: how many are on each side.
        unchecked: how many have no split.
        uncompared: how many have a split, but their content is not there to be compared.
    """

    manifest: str
    videos: dict[str, int]
    unchecked: int
    uncompared: int
    leaks: list[Leak]


@dataclass(frozen=True)
class Tally:
    """How many there are; frames only of a store."""

    videos: int
    groups: int
    frames: int | None


@dataclass(frozen=True)
class Cell:
    """The videos of one class and split; empty text where nothing is said.

    Attributes:
        label: a class, or `;` for the videos that have none of them; a video that has several is
            in the cell of each.
    """

    label: str
    split: str
    counts: Tally


@dataclass(frozen=True)
class CountsReport:
    """How many videos there are in all, and of each class and split that occurs."""

    manifest: str
    cells: list[Cell]
    total: Tally


def leaks(path: Path) -> LeaksReport:
    """Find what ties the sides of the column ``split`` together.

    Raises:
        ContractError: no video has a split.
    """
    said = Described(path)
    sides = [side_of(row.split) for row in said.rows]
    videos = Counter(filter(None, sides))
    said.warn_of_absent()
    if not videos:
        raise ContractError(
            f"{said.manifest} says no split for any video, so there is nothing to check; "
            "'cubereel manifest split --write' fills its column 'split'"
        )
    return LeaksReport(
        manifest=str(said.manifest),
        videos=dict(sorted(videos.items())),
        unchecked=len(said.rows) - videos.total(),
        uncompared=sum(1 for row in said.absent if row.split),
        leaks=find_leaks(said.rows, sides, media=said.media),
    )


def counts(path: Path) -> CountsReport:
    """Count videos, groups and frames of every class and split; of a store, what is stored.

    Raises:
        ContractError: a label is not rightly written.
    """
    said = Described(path)
    videos = said.videos
    if said.num_frames is not None:
        described = {row.video_id for row in videos}
        videos += [ManifestRow(i, i) for i in said.num_frames if i not in described]
    said.warn_of_absent()
    warn_of_groups(videos)
    cells = defaultdict(list)
    for row in videos:
        for name in classes_of(row) or [row.label.strip()]:
            cells[name, side_of(row.split)].append(row)
    return CountsReport(
        manifest=str(said.manifest),
        cells=[
            Cell(label, split, _tally(rows, said.num_frames))
            for (label, split), rows in sorted(cells.items())
        ],
        total=_tally(videos, said.num_frames),
    )


def _tally(rows: Sequence[ManifestRow], frames: Mapping[str, int] | None) -> Tally:
    num_frames = None if frames is None else sum(frames[row.video_id] for row in rows)
    return Tally(len(rows), len(set(group_names(rows))), num_frames)
