"""`plan.json` in a store: its units, and all that every worker must do alike. Data only.

A plan is written by whoever has the store alone, and is the same for laptop, array and cluster.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from extract.unit import Unit, VideoJob
from features_store.catalogue import UNIT
from features_store.errors import ContractError, UsageError
from features_store.format.inputs import MAX_JSON_BYTES
from features_store.format.outputs import write_atomically
from features_store.leases import MAX_LEASE_SECONDS
from features_store.metadata import StoreHeader
from features_store.plain import PlainError, from_plain, to_plain
from features_store.planned import PLAN_NAME, clear_units, read_plan
from pipelines.extraction.request import parse_share

VideoRow = tuple[str, str | None, float | None, float | None, int, int | None, int | None]


@dataclass(frozen=True, kw_only=True)
class UnitRow:
    """A unit as it stands in the file; see `Unit`."""

    name: str
    videos: tuple[VideoRow, ...]
    supersedes: dict[str, tuple[str, ...]]
    seconds: float | None

    @property
    def num_frames(self) -> int:
        """Upper estimate of its frames."""
        return sum(video[4] for video in self.videos)


@dataclass(frozen=True, kw_only=True)
class StoredPlan:
    """What a plan says.

    Attributes:
        id: names of its units begin with it.
        cubereel: version that made it, which its workers must have too.
        spec_digest: of the store that it is for.
        root: folder that paths of videos are relative to; a video without one has its id for it.
        source: id of the source, in `store.json`.
        num_videos: of the source; those that are in no unit were done, or had failed, before.
        num_done: of them, stored before.
        is_compiled: whether networks run compiled.
        keep_partial: whether the frames of a video that breaks off are kept.
        lease_seconds: without a sign of life after which a worker is thought dead.
        row_bytes: of a frame in the store.
    """

    id: str
    cubereel: str
    spec_digest: str
    root: str
    source: str
    num_videos: int
    num_done: int
    is_compiled: bool
    keep_partial: bool
    lease_seconds: float
    row_bytes: int
    units: tuple[UnitRow, ...]

    def __post_init__(self) -> None:
        if not 0 < self.lease_seconds <= MAX_LEASE_SECONDS:
            raise PlainError(f"lease_seconds is {self.lease_seconds}; a day at most is expected")
        for unit in self.units:
            if not (unit.name.startswith(f"{self.id}.") and UNIT.fullmatch(unit.name)):
                raise PlainError(
                    f"{unit.name[:200]!r} is no name of a unit that begins with {self.id[:200]!r}"
                )

    def unit(self, row: UnitRow) -> Unit:
        """Return a unit as a worker is given it."""
        jobs, top = [], _top(self.root)
        for video_id, path, start, end, max_frames, media_bytes, mtime_ns in row.videos:
            file = top + (video_id if path is None else path)
            jobs.append(VideoJob(video_id, file, start, end, max_frames, media_bytes, mtime_ns))
        return Unit(row.name, tuple(jobs), row.supersedes, row.seconds)


def new_plan(units: Sequence[Unit], *, root: Path, **said: Any) -> StoredPlan:
    """Return the plan of units; see `StoredPlan` for the rest."""
    top = _top(root)
    rows = tuple(
        UnitRow(
            name=unit.name,
            videos=tuple(_video_row(job, top) for job in unit.videos),
            supersedes={name: tuple(ids) for name, ids in unit.supersedes.items()},
            seconds=unit.seconds,
        )
        for unit in units
    )
    return StoredPlan(root=str(root), cubereel=version("cubereel"), units=rows, **said)


def _top(root: str | Path) -> str:
    """Return the beginning of all paths below a root, which may be ``/``."""
    return os.path.join(root, "")  # noqa: PTH118 (a prefix of many strings)


def _video_row(job: VideoJob, top: str) -> VideoRow:
    path = job.file.removeprefix(top)
    return (
        job.video_id,
        None if path == job.video_id else path,
        job.start_seconds,
        job.end_seconds,
        job.max_frames,
        job.media_bytes,
        job.media_mtime_ns,
    )


def write_plan(store: Path, plan: StoredPlan) -> None:
    """Write a plan in place of an older one; no worker may be at work."""
    content = json.dumps(to_plain(plan), separators=(",", ":")).encode()
    if len(content) > MAX_JSON_BYTES:  # which nobody would read again
        raise ContractError(
            f"a plan of {sum(len(unit.videos) for unit in plan.units)} videos has {len(content)} "
            f"bytes, at most {MAX_JSON_BYTES} are read; extract the source in several parts"
        )
    clear_units(store)
    write_atomically(store / PLAN_NAME, content)


def load_plan(store: Path, header: StoreHeader) -> StoredPlan:
    """Read and check a store's plan.

    Raises:
        UsageError: there is none.
        ContractError: it cannot be understood, is of another store, or of another version.
    """
    document = read_plan(store)
    if document is None:
        raise UsageError(f"{store} has no {PLAN_NAME}; 'cubereel plan' with `out` makes one")
    if document.get("cubereel") != version("cubereel"):
        raise ContractError(
            f"the plan of {store} is of cubereel {document.get('cubereel')}, this is "
            f"{version('cubereel')}; use the same version for all workers, or plan again"
        )
    if document.get("spec_digest") != header.spec.digest:
        raise ContractError(
            f"{store / PLAN_NAME} is the plan of another store: its spec is "
            f"{str(document.get('spec_digest'))[:12]}, here it is {header.spec.digest[:12]}; "
            "plan again"
        )
    try:
        return from_plain(StoredPlan, document)
    except PlainError as err:
        raise ContractError(f"{store / PLAN_NAME} cannot be understood: {err}; plan again") from err


def chosen_units(plan: StoredPlan, share: str | None) -> list[Unit]:
    """Return the units of a plan, or those of a share; see `parse_share`."""
    if share is None:
        return [plan.unit(row) for row in plan.units]
    number, total = parse_share(share)
    return [plan.unit(row) for row in plan.units[number::total]]
