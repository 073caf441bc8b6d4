"""One run of `extract`: the units of its plan, what becomes of each video, and the report."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from extract.compute.views import ViewComputer
from extract.decode.pool import DecodePool
from extract.unit import UnitExtractor, VideoFailure, VideoJob
from features_store.format.records import VideoRecord
from features_store.ledger import append_failure, new_failure
from features_store.session import StoreSession
from features_store.unit_writer import UnitWriter
from pipelines.executors.deadline import Deadline
from pipelines.extraction.options import Partial
from pipelines.extraction.plan import ExtractionPlan
from pipelines.extraction.sources import Source
from pipelines.progress import ProgressLog

logger = logging.getLogger("cubereel")


@dataclass
class ExtractionReport:
    """What one run of `extract` did; also ``runs/<id>.json`` in the store.

    Attributes:
        seconds: all of it.
        extracting_seconds: from the start of the decoders to the last commit.
        num_done_before, num_extracted: videos that the store holds, partial ones among them.
        num_partial_before: partial ones that the store held before.
        partial, failed: videos that broke off or failed now: ``video_id``, ``reason``, ``error``.
        failed_before: likewise, in earlier runs; they were not tried again.
        stopped: whether the run ended before all was done.
        is_compiled: whether the backbone ran compiled.
    """

    run_id: str
    store: str
    num_videos: int
    num_done_before: int
    num_extracted: int = 0
    num_frames: int = 0
    seconds: float = 0.0
    extracting_seconds: float = 0.0
    stopped: bool = False
    is_compiled: bool = False
    num_partial_before: int = 0
    salvaged_shards: list[str] = field(default_factory=list)
    partial: list[dict[str, str]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    failed_before: list[dict[str, str]] = field(default_factory=list)

    @property
    def num_in_store(self) -> int:
        """Videos of the source that the store holds now."""
        return self.num_done_before + self.num_extracted

    @property
    def num_partial(self) -> int:
        """Those of them that are partial."""
        return self.num_partial_before + len(self.partial)

    @property
    def num_failed(self) -> int:
        """Videos of the source that failed, now or in an earlier run."""
        return len(self.failed) + len(self.failed_before)


def new_report(
    run_id: str, writer: StoreSession, videos: Source, plan: ExtractionPlan
) -> ExtractionReport:
    """Return what is known before the first video is decoded."""
    return ExtractionReport(
        run_id,
        str(writer.path),
        len(videos.rows),
        len(plan.done),
        num_partial_before=len(plan.partial),
        salvaged_shards=[shard.name for shard in writer.salvaged],
        failed_before=[
            {"video_id": each.video_id, "reason": each.reason, "error": each.error}
            for each in plan.failed_before
        ],
    )


class Run:
    """The units of a plan, one after the other, until all is done or the deadline is near.

    Args:
        views: computes the pictures of a frame that the pool sends.
        partial: whether the frames of a video that breaks off are kept.
    """

    def __init__(
        self,
        writer: StoreSession,
        views: ViewComputer,
        report: ExtractionReport,
        deadline: Deadline,
        *,
        partial: Partial,
    ) -> None:
        self._writer, self._views = writer, views
        self._report, self._deadline = report, deadline
        self._keep_partial = partial == "keep"
        self._num_ended = 0

    def extract(self, plan: ExtractionPlan, pool: DecodePool) -> None:
        """Extract the videos of a plan into the store and the report."""
        begun = time.monotonic()
        try:
            self._extract_units(plan, pool)
        finally:
            self._report.extracting_seconds = round(time.monotonic() - begun, 3)
            self._report.stopped = self._num_ended < plan.num_jobs
            if not self._num_ended:
                logger.warning(
                    "no video was done in %.0f s; %s, the first, is dropped and needs more time",
                    self._report.extracting_seconds, plan.units[0][0].video_id,
                )  # fmt: skip

    def _extract_units(self, plan: ExtractionPlan, pool: DecodePool) -> None:
        extractor = UnitExtractor(
            self._views, self._open_unit, keep_partial=self._keep_partial,
            on_frames=self._on_frames, on_failure=self._on_failure, on_video=self._on_video,
        )  # fmt: skip
        with ProgressLog("extract", total=plan.num_jobs, unit="videos") as self._progress:
            extractor.run(plan.units, pool, may_begin=self._deadline.may_begin)

    def _open_unit(self, jobs: Sequence[VideoJob]) -> UnitWriter:
        rows = sum(job.max_frames for job in jobs)
        return self._writer.unit(rows=rows, video_ids=[job.video_id for job in jobs])

    def _on_frames(self, num_frames: int) -> None:
        self._report.num_frames += num_frames
        self._progress.show(f"({self._report.num_frames} frames)")

    def _on_failure(self, failure: VideoFailure) -> None:
        job, error = failure.job, failure.error
        line = new_failure(
            video_id=job.video_id,
            path=str(job.path),
            stage="decode",
            reason=error.reason,
            error=str(error),
            outcome="partial" if failure.is_kept else "failed",
            num_frames=failure.num_frames,
            media_bytes=job.media_bytes,
            media_mtime_ns=job.media_mtime_ns,
            start_seconds=job.start_seconds,
            end_seconds=job.end_seconds,
        )
        append_failure(self._writer.path, self._report.run_id, line)
        listed = self._report.partial if failure.is_kept else self._report.failed
        listed.append({"video_id": job.video_id, "reason": error.reason, "error": str(error)})
        logger.warning("%s %s: %s", line.outcome, job.video_id, error)

    def _on_video(self, record: VideoRecord | None) -> None:
        self._num_ended += 1
        self._report.num_extracted += record is not None
        self._deadline.finished()
        self._progress.step(f"({self._report.num_frames} frames)")
