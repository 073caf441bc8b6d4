"""How far the plan of a store is: read from the store alone, now or days later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from features_store.appending import with_claimed
from features_store.catalogue import read_catalogue
from features_store.claim import read_notes, read_report, unit_holder
from features_store.ledger import read_unit_failures
from features_store.listing import sealed_unlisted
from features_store.metadata import read_header
from pipelines.extraction.claimed import read_unit_report
from pipelines.extraction.plan_file import StoredPlan, load_plan


@dataclass(frozen=True)
class UnitInWork:
    """A unit that somebody works on: who, and since when (ISO, UTC)."""

    unit: str
    holder: str
    since: str


@dataclass
class StatusReport:
    """How far a plan is.

    Attributes:
        store: its folder.
        plan: id of its plan.
        units, units_done: of the plan; the others are in work or wait.
        in_work: units that somebody works on.
        videos: of the source, `videos_before` of them done before it was planned.
        stored, failed: videos of units that are done.
        reasons: why videos failed, those of units in work among them -> how many.
        frames: of the units that are done; `frames_planned` is an upper estimate of all.
        frames_per_second: over all workers, from the first beginning to the last end.
        seconds_left: by that speed; None where no unit is done.
        workers_lost: attempts that neither ended nor go on.
        unlisted: shards that are sealed, and wait for a worker or for 'extract' to list them.
    """

    store: str
    plan: str
    units: int
    videos: int
    videos_before: int
    frames_planned: int
    units_done: int = 0
    stored: int = 0
    failed: int = 0
    frames: int = 0
    frames_per_second: float | None = None
    seconds_left: float | None = None
    workers_lost: int = 0
    unlisted: int = 0
    in_work: list[UnitInWork] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def units_waiting(self) -> int:
        """Units that nobody has begun, or that were left."""
        return self.units - self.units_done - len(self.in_work)


def status(store: str | Path) -> StatusReport:
    """Return how far the plan of a store is.

    Raises:
        UsageError: it has no plan.
        StoreError: it is no store, or not readable.
    """
    path = Path(store)
    header = read_header(path)
    plan = load_plan(path, header)
    catalogue = with_claimed(path, read_catalogue(path, spec_digest=header.spec.digest))
    report = StatusReport(
        str(path), plan.id, len(plan.units), plan.num_videos, plan.num_done, _frames(plan),
        unlisted=len(sealed_unlisted(path, catalogue)),
    )  # fmt: skip
    _fill(report, path, plan)
    return report


def _frames(plan: StoredPlan) -> int:
    return sum(row.num_frames for row in plan.units)


def _fill(report: StatusReport, path: Path, plan: StoredPlan) -> None:
    begun, ended, frames_of_done = [], [], 0
    reasons: Counter[str] = Counter()
    for row in plan.units:
        notes = list(read_notes(path, row.name))
        begun += _times(notes[:1])
        done, holder = read_unit_report(path, row.name), unit_holder(path, row.name)
        failures = {each.video_id: each for each in read_unit_failures(path, row.name)}
        reasons.update(
            each.reason
            for each in failures.values()
            if each.outcome == "failed" and (done is None or each.video_id in done.failed)
        )
        report.workers_lost += max(0, _num_open(notes) - (holder is not None))
        if done is not None:
            report.units_done += 1
            report.stored += done.num_videos - len(done.failed)
            report.failed += len(done.failed)
            report.frames += done.num_frames
            ended += _times([read_report(path, row.name) or {}])
            frames_of_done += row.num_frames
        elif holder is not None:
            since = [each.isoformat() for each in _times(notes[-1:])]
            report.in_work.append(UnitInWork(row.name, holder, since[0] if since else ""))
    report.reasons = dict(reasons.most_common())
    if begun and ended and (seconds := (max(ended) - min(begun)).total_seconds()) > 0:
        report.frames_per_second = report.frames / seconds
        left = report.frames_planned - frames_of_done
        report.seconds_left = left / frames_of_done * seconds if frames_of_done else None


def _num_open(notes: Sequence[Mapping[str, Any]]) -> int:
    """Return how many attempts were begun and not ended."""
    what = Counter(note.get("what") for note in notes)
    return max(0, what["begun"] - what["ended"])


def _times(notes: Sequence[Mapping[str, Any]]) -> list[datetime]:
    times = []
    for note in notes:
        with suppress(ValueError, TypeError):
            times.append(datetime.fromisoformat(note.get("time", "")))
    return times
