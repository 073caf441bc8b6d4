"""One run of `extract`: the units of its plan, what becomes of each video, and the report."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from extract.unit import Unit, UnitReport
from features_store.ledger import read_unit_failures
from pipelines.executors.registry import make_executor
from pipelines.extraction.claimed import VideoDone, VideoFailed
from pipelines.extraction.work import FramesWritten, UnitSettings, UnitWork
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


class Run:
    """The units of a plan, until all is done or the deadline is near."""

    def __init__(self, report: ExtractionReport, units: Sequence[Unit]) -> None:
        self._report, self._units = report, units
        self._num_jobs = sum(len(unit.videos) for unit in units)
        self._num_ended = 0
        self._reports: dict[str, UnitReport] = {}

    def here(self, work: UnitWork) -> None:
        """Extract in this process."""
        with self._timed(), work, closing(work.run(self._units, self._take)) as reports:
            self._reports.update((each.unit, each) for each in reports)

    def in_processes(self, settings: UnitSettings, processes: int, *, cluster: str) -> None:
        """Extract in worker processes."""
        executor = make_executor(cluster, UnitWork, settings, processes=processes, say=self._take)
        with self._timed(), executor:
            self._reports.update((each.unit, each) for each in executor.run(self._units))

    @contextmanager
    def _timed(self) -> Iterator[None]:
        self._begun = time.monotonic()
        try:
            with ProgressLog("extract", total=self._num_jobs, unit="videos") as self._progress:
                yield
        finally:
            self._report.extracting_seconds = round(time.monotonic() - self._begun, 3)
            self._settle()
            if not self._num_ended:
                logger.warning(
                    "no video was done in %.0f s; %s, the first, is dropped and needs more time",
                    self._report.extracting_seconds, self._units[0].videos[0].file,
                )  # fmt: skip

    def _settle(self) -> None:
        """Count by the reports of units, where all are there: events of workers that die are lost.

        A unit that several workers began is told of several times, and a video that failed may have
        been stored after that.
        """
        report = self._report
        report.failed = list({each["video_id"]: each for each in report.failed}.values())
        report.partial = list({each["video_id"]: each for each in report.partial}.values())
        if len(self._reports) == len(self._units):
            ended = [each.num_videos for each in self._reports.values()]
            self._num_ended = sum(ended)
            heard = {each["video_id"]: each for each in report.failed}
            report.failed = [
                heard.get(video_id) or self._from_ledger(unit.unit, video_id)
                for unit in self._reports.values()
                for video_id in unit.failed
            ]
            report.num_extracted = self._num_ended - len(report.failed)
        report.stopped = self._num_ended < self._num_jobs

    def _from_ledger(self, unit: str, video_id: str) -> dict[str, str]:
        """Return what was written down of a failure, of which nothing was heard."""
        said = {"video_id": video_id, "reason": "", "error": ""}
        for failure in read_unit_failures(Path(self._report.store), unit):
            if failure.video_id == video_id:
                said |= {"reason": failure.reason, "error": failure.error}
        return said

    def _take(self, event: FramesWritten | VideoDone | VideoFailed) -> None:
        """Take note of what happened."""
        report = self._report
        if isinstance(event, FramesWritten):
            report.num_frames += event.num_frames
            self._progress.show(self._note())
        elif isinstance(event, VideoFailed):
            listed = report.partial if event.outcome == "partial" else report.failed
            listed.append(
                {"video_id": event.video_id, "reason": event.reason, "error": event.error}
            )
        else:
            self._num_ended += 1
            report.num_extracted += event.is_stored
            self._progress.step(self._note())

    def _note(self) -> str:
        """Say what all workers did so far: frames, their speed, hours to go, videos that failed."""
        seconds = time.monotonic() - self._begun
        num_frames, num_failed = self._report.num_frames, len(self._report.failed)
        note = f"{num_frames} frames, {num_frames / max(seconds, 1e-3):.0f}/s"
        if self._num_ended:
            left = seconds / self._num_ended * (self._num_jobs - self._num_ended)
            note += f", {left / 3600:.1f} h to go"
        return f"({note}, {num_failed} failed)" if num_failed else f"({note})"
