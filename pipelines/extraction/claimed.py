"""Units as one worker may do them: claimed, without the videos that are done.

A unit may have been worked on before, by a worker that was pre-empted or died, and may be worked on
by somebody else now. A unit at which workers die is done in ever smaller chunks, until the video
that kills them is alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import reduce
from pathlib import Path

from extract.unit import Unit, UnitReport, VideoJob
from features_store.appending import Appender
from features_store.claim import UnitClaim, read_report
from features_store.ledger import Failure, append_failure, new_failure, read_unit_failures
from features_store.metadata import StoreHeader
from features_store.parts import UnitParts
from features_store.plain import PlainError, from_plain
from pipelines.executors.work import Say
from pipelines.extraction.options import Partial
from pipelines.extraction.retries import is_same, standing

_REPORTED = [field.name for field in fields(UnitReport)]
DEATHS = 2  # from which on a unit is done in chunks; one may be the machine's


@dataclass(frozen=True)
class VideoDone:
    """A video is done: stored, or failed."""

    is_stored: bool


@dataclass(frozen=True)
class VideoFailed:
    """A video failed or broke off: its line in the ledger is there."""

    video_id: str
    outcome: str
    reason: str
    error: str


@dataclass
class ClaimedUnit:
    """A unit that this process works on.

    Attributes:
        unit: with the videos that are left.
        before: what became of the other ones.
        chunks: of the videos that are left, to be done one after the other; empty if all at once.
    """

    claim: UnitClaim
    parts: UnitParts
    whole: Unit
    unit: Unit
    before: UnitReport
    chunks: list[tuple[VideoJob, ...]]

    def report(self, now: Sequence[UnitReport]) -> UnitReport:
        """Return what became of it, before and now."""
        return reduce(UnitReport.plus, now, self.before)

    def release(self, report: UnitReport) -> None:
        """Say what became of it, if all of it is done, and let others have it."""
        if report.num_videos == len(self.whole.videos):
            self.claim.done(asdict(report))
        self.claim.release()


class Claims:
    """The units that one worker was given.

    Args:
        appender: to the store's catalogue, for as long as the worker is there.
        say: called with what became of videos that were done before.

    Attributes:
        held: those that others work on now.
        found_done: reports of those with nothing left to do.
    """

    def __init__(
        self,
        store: Path,
        header: StoreHeader,
        appender: Appender,
        *,
        lease_seconds: float,
        partial: Partial,
        say: Say,
    ) -> None:
        self._store, self._header, self._appender = store, header, appender
        self._lease_seconds, self._partial, self._say = lease_seconds, partial, say
        self._claims: dict[str, UnitClaim] = {}
        self.held: list[Unit] = []
        self.found_done: list[UnitReport] = []

    def take(self, unit: Unit) -> ClaimedUnit | None:
        """Claim a unit; None where there is nothing to do, or somebody else is at it."""
        if self._is_done(unit):
            return None
        # The same lease again, since it is watched for as long as its holder may be silent.
        claim = self._claims.setdefault(unit.name, self._new_claim(unit))
        if not claim.take():
            self.held.append(unit)
            return None
        if self._is_done(unit):  # meanwhile
            claim.release()
            return None
        found = self._look(unit, claim)
        if found.unit.videos:
            return found
        found.release(found.before)
        self.found_done.append(found.before)
        return None

    def release(self) -> None:
        """Let others have all that is still claimed."""
        for claim in self._claims.values():
            claim.release()

    def _new_claim(self, unit: Unit) -> UnitClaim:
        return UnitClaim(self._store, unit.name, lease_seconds=self._lease_seconds)

    def _is_done(self, unit: Unit) -> bool:
        """Whether a unit was done by somebody; its videos are said to be."""
        report = read_unit_report(self._store, unit.name)
        if report is None:
            return False
        failures = list(read_unit_failures(self._store, unit.name))
        self._say_found(report, failures)
        self.found_done.append(report)
        return True

    def _look(self, unit: Unit, claim: UnitClaim) -> ClaimedUnit:
        """Find what is left of a unit, and say what is not."""
        parts = UnitParts(
            self._store, self._header, unit.name, supersedes=unit.supersedes,
            appender=self._appender,
        )  # fmt: skip
        sealed = parts.finish(claim.attempt)
        num_deaths, at_death = claim.chunk_of_deaths
        failures = list(read_unit_failures(self._store, unit.name))
        left, failed = [], []
        for job in unit.videos:
            if job.video_id in sealed:
                continue
            of_job = [each for each in failures if is_same(each, job)]
            failure = standing(of_job, partial=self._partial)
            if failure is None and num_deaths and at_death == (job.video_id,):
                failure = self._killer(unit, job)
            if failure is None:
                left.append(job)
            else:
                failed.append(failure)
        num_partial = list(sealed.values()).count("partial")
        ids = tuple(failure.video_id for failure in failed)
        before = UnitReport(unit.name, len(sealed) + len(failed), num_partial, ids)
        self._say_found(before, [*failures, *failed])
        chunks = _chunks(left, at_death) if num_deaths >= DEATHS else []
        return ClaimedUnit(claim, parts, unit, replace(unit, videos=tuple(left)), before, chunks)

    def _killer(self, unit: Unit, job: VideoJob) -> Failure:
        """Write down that a video killed the worker that had nothing else in work."""
        failure = new_failure(
            video_id=job.video_id, path=job.file, stage="extract", reason="worker died",
            error=f"{job.file}: the worker was killed while nothing else was in work",
            media_bytes=job.media_bytes, media_mtime_ns=job.media_mtime_ns,
            start_seconds=job.start_seconds, end_seconds=job.end_seconds,
        )  # fmt: skip
        append_failure(self._store, unit.name, failure)
        return failure

    def _say_found(self, report: UnitReport, failures: Sequence[Failure]) -> None:
        """Say of each video what became of it; one that failed first may be stored now."""
        for each in {each.video_id: each for each in failures}.values():
            if each.outcome == "partial" or each.video_id in report.failed:
                self._say(VideoFailed(each.video_id, each.outcome, each.reason, each.error))
        for i in range(report.num_videos):
            self._say(VideoDone(i >= len(report.failed)))


def _chunks(left: Sequence[VideoJob], at_death: Sequence[str]) -> list[tuple[VideoJob, ...]]:
    """Return the videos that are left, in chunks: halves of those in work at the last death.

    >>> jobs = [VideoJob(name, name, None, None, 1) for name in "abcde"]
    >>> [[job.video_id for job in chunk] for chunk in _chunks(jobs, "bcd")]
    [['b', 'c'], ['d'], ['a', 'e']]
    """
    suspects = [job for job in left if job.video_id in at_death] or list(left)
    rest = [job for job in left if job not in suspects]
    half = (len(suspects) + 1) // 2
    return [tuple(chunk) for chunk in (suspects[:half], suspects[half:], rest) if chunk]


def read_unit_report(store: Path, unit: str) -> UnitReport | None:
    """Return what became of a unit; None while it is not done, or where that is not understood."""
    said = read_report(store, unit)
    if said is None:
        return None
    try:
        return from_plain(UnitReport, {name: said.get(name) for name in _REPORTED})
    except PlainError:
        return None
