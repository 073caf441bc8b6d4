"""Which videos that failed before are tried again, as the ledger has them. Data only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from extract.unit import VideoJob
from features_store.errors import REASONS
from features_store.ledger import Failure
from pipelines.extraction.options import Partial

MAX_TRIES = 3  # of one file, for reasons of the machine: then it is the video that kills decoders


class Attempts:
    """The failed attempts of all runs before, by video."""

    def __init__(self, failures: Iterable[Failure]) -> None:
        self._failures: dict[str, list[Failure]] = {}
        for failure in failures:
            self._failures.setdefault(failure.video_id, []).append(failure)

    def verdict(self, job: VideoJob, *, partial: Partial) -> Failure | None:
        """Return the failure that stands for the same span of the same file, if any."""
        found = self._failures.get(job.video_id, ())
        return standing([each for each in found if is_same(each, job)], partial=partial)


def is_same(failure: Failure, job: VideoJob) -> bool:
    """Whether an attempt was at what a job asks for: by size and time of the file, and by span."""
    known = failure.media_bytes is not None and failure.media_mtime_ns is not None
    return known and (
        (failure.media_bytes, failure.media_mtime_ns, failure.start_seconds, failure.end_seconds)
        == (job.media_bytes, job.media_mtime_ns, job.start_seconds, job.end_seconds)
    )


def standing(attempts: Sequence[Failure], *, partial: Partial) -> Failure | None:
    """Return the last of the attempts at one file, oldest first, unless another try is due.

    Another try is due after fewer than `MAX_TRIES` failures that may be the machine's, where
    frames that were dropped are wanted now, and for reasons that this version does not know.
    """
    reason = REASONS.get(attempts[-1].reason) if attempts else None
    if reason is None:
        return None
    if reason.fault == "machine" and _num_of_machine(attempts) < MAX_TRIES:
        return None
    if reason.breaks_off and attempts[-1].num_frames and partial == "keep":
        return None
    return attempts[-1]


def _num_of_machine(attempts: Sequence[Failure]) -> int:
    reasons = (REASONS.get(attempt.reason) for attempt in attempts)
    return sum(reason is not None and reason.fault == "machine" for reason in reasons)
