"""Extracting units: decode → batches packed across videos → cubes → a committed video each.

Decoding runs ahead in child processes, computing in threads, writing in one more. Queues are
bounded everywhere, so memory depends neither on the length of a video nor on how many there are.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.compute.batching import BatchPacker, FrameBlock
from extract.compute.behind import Behind
from extract.compute.lanes import ComputeLanes
from extract.compute.preprocess import frame_diffs
from extract.compute.views import Batch, ComputedView, ViewComputer
from extract.decode.pool import DecodePool, DecodeTask, Failed, Finished, Frames
from extract.unit import Unit, UnitReport, VideoJob
from extract.video.media import draw_key_of, media_fields
from extract.video.reader import VideoSummary
from features_store.errors import REASONS, DecodeError
from features_store.format.layout import cube_path, diff_cube_path
from features_store.format.records import VideoRecord
from features_store.unit_writer import UnitWriter

BATCHES_TO_WRITE = 2  # that may wait, computed


@dataclass(frozen=True)
class VideoFailure:
    """One video that failed, or broke off after `num_frames` rows that are kept as they are."""

    job: VideoJob
    error: DecodeError
    num_frames: int
    is_kept: bool


@dataclass
class _UnitInWork:
    """A unit that was begun, and what became of its videos so far."""

    unit: Unit
    report: UnitReport

    @property
    def is_done(self) -> bool:
        """Whether all its videos are."""
        return self.report.num_videos == len(self.unit.videos)

    def count(self, **more: Any) -> None:
        """Add to fields of the report."""
        self.report = self.report.plus(UnitReport(self.unit.name, **more))


class UnitExtractor:
    """Turns units into committed videos, one stream of batches over all of them.

    While a unit is sealed the next one is decoded and computed. The callbacks are called in the
    thread that writes, one after the other, and none after `run`.

    Args:
        open_unit: opens what a unit is written to; as a context manager it seals.
        keep_partial: commit the frames of a video that breaks off, instead of forgetting them.
        on_frames: called with the number of frames written, for progress.
        on_failure: called before what it tells of is committed, so that no kill can hide it.
        on_video: called once for each video when it is done, with its record if it has one.
    """

    def __init__(
        self,
        computer: ViewComputer,
        open_unit: Callable[[Unit], UnitWriter],
        *,
        keep_partial: bool,
        on_frames: Callable[[int], None],
        on_failure: Callable[[VideoFailure], None],
        on_video: Callable[[VideoRecord | None], None],
    ) -> None:
        self._computer = computer
        self._open_unit = open_unit
        self._keep_partial = keep_partial
        self._on_frames = on_frames
        self._on_failure = on_failure
        self._on_video = on_video
        self._previous: dict[str, np.ndarray] = {}  # thumbnails of the last kept frame, by view
        self._num_frames = 0  # of the video in work

    def run(
        self, units: Iterable[Unit], pool: DecodePool, *, may_begin: Callable[[], bool]
    ) -> Iterator[UnitReport]:
        """Extract units and report each when it is sealed; a video that fails costs no other.

        Args:
            units: the next one is taken when the last video before it is being decoded.
            may_begin: asked before each video is handed out; the first no ends the run.
        """
        self._places: list[tuple[_UnitInWork, VideoJob]] = []  # of all videos handed out
        self._draw_keys: dict[int, str] = {}  # of videos whose frames are drawn
        self._begun: list[_UnitInWork] = []
        self._next = 0  # position of the video in work
        self._in_work: _UnitInWork | None = None
        self._seal: Future[None] | None = None
        self._sealed: deque[_UnitInWork] = deque()
        packer: BatchPacker[Finished | Failed] = BatchPacker(self._computer.computer.batch_size)
        lanes: ComputeLanes[Batch, dict[str, ComputedView]] = ComputeLanes(
            self._computer.computer.device
        )
        with (
            ExitStack() as self._opened,
            ThreadPoolExecutor(1, "seal") as self._sealing,
            Behind("write", ahead=BATCHES_TO_WRITE) as writing,
            lanes,
        ):
            for event in pool.decode(self._tasks(units, may_begin, is_drawn=pool.draws_frames)):
                if isinstance(event, Frames):
                    packer.add(FrameBlock(event.pixels, event.pts_seconds, event.frame_index))
                else:
                    packer.add(event)
                for batch in packer.full():
                    lanes.add(batch, self._computer.work(batch))
                for batch, computed in lanes.ready():
                    writing.call(self._record, batch, computed)
                yield from self._reports()
            rest = packer.rest()
            lanes.add(rest, self._computer.work(rest))
            for batch, computed in lanes.rest():
                writing.call(self._record, batch, computed)
        self._wait_for_seal()
        yield from self._reports()
        yield from (each.report for each in self._begun if not each.is_done)

    def _reports(self) -> Iterator[UnitReport]:
        while self._sealed:
            yield self._sealed.popleft().report

    def _tasks(
        self, units: Iterable[Unit], may_begin: Callable[[], bool], *, is_drawn: bool
    ) -> Iterator[DecodeTask]:
        for unit in units:
            begun = _UnitInWork(unit, UnitReport(unit.name))
            self._begun.append(begun)
            for job in unit.videos:
                if not may_begin():
                    return
                i = len(self._places)
                self._places.append((begun, job))
                key = draw_key_of(job.path) if is_drawn else ""
                if is_drawn:
                    self._draw_keys[i] = key
                yield DecodeTask(i, job.file, job.start_seconds, job.end_seconds, draw_key=key)

    def _record(self, batch: Batch, computed: dict[str, ComputedView] | None) -> None:
        start = 0
        for item in batch:
            self._enter_unit()
            if isinstance(item, FrameBlock):
                assert computed is not None, "there are frames, so they were computed"
                self._write(item, computed, slice(start, start + len(item)))
                start += len(item)
                continue
            begun, job = self._places[item.index]
            self._draw_key = self._draw_keys.pop(item.index, None)
            self._next = item.index + 1
            if isinstance(item, Finished):
                self._finish(job, item.summary)
            else:
                self._fail(job, item)
            if begun.is_done:
                self._leave_unit(begun)

    def _enter_unit(self) -> None:
        """Have the unit of the video in work open."""
        begun, _ = self._places[self._next]
        if begun is not self._in_work:
            self._writer = self._opened.enter_context(self._open_unit(begun.unit))
            self._in_work = begun

    def _leave_unit(self, done: _UnitInWork) -> None:
        """Seal the unit that is done in a thread of its own, one unit at a time."""
        self._wait_for_seal()
        self._seal = self._sealing.submit(self._close, self._opened.pop_all(), done)

    def _close(self, opened: ExitStack, done: _UnitInWork) -> None:
        opened.close()
        self._sealed.append(done)

    def _wait_for_seal(self) -> None:
        if self._seal is not None:
            self._seal.result()

    def _write(self, block: FrameBlock, computed: Mapping[str, ComputedView], rows: slice) -> None:
        arrays = {"pts_seconds": block.pts_seconds, "frame_index": block.frame_index}
        for view, (frames, before, diff_cubes) in computed.items():
            for layer, cubes in frames.cubes.items():
                arrays[cube_path(view, layer)] = cubes[rows]
            for layer, cubes in diff_cubes.items():
                arrays[diff_cube_path(view, layer)] = cubes[rows]
            small = frames.thumbnails[rows]
            arrays[f"diffs/{view}"] = (
                frame_diffs(small, self._previous.get(view))
                if before is None
                else small - before[rows]
            )
            self._previous[view] = small[-1]
        self._writer.write_rows(arrays)
        self._num_frames += len(block)
        self._places[self._next][0].count(num_frames=len(block))
        self._on_frames(len(block))

    def _finish(self, job: VideoJob, summary: VideoSummary) -> None:
        try:
            media = self._media_of(job)
        except DecodeError as err:
            self._drop(job, err)
            return
        self._commit(job, summary, media, status="ok")

    def _fail(self, job: VideoJob, event: Failed) -> None:
        """Drop a video that failed, or keep what was decoded before it broke off."""
        breaks_off = REASONS[event.error.reason].breaks_off
        if event.summary is None or not self._num_frames or not breaks_off:
            self._drop(job, event.error)
        elif not self._keep_partial:
            self._drop(job, event.error, num_frames=self._num_frames)
        else:
            try:
                media = self._media_of(job)
            except DecodeError as err:
                self._drop(job, err)
                return
            self._on_failure(VideoFailure(job, event.error, self._num_frames, is_kept=True))
            self._commit(job, event.summary, media, status="partial")

    def _commit(
        self, job: VideoJob, summary: VideoSummary, media: dict[str, Any], *, status: str
    ) -> None:
        record = self._writer.commit(
            id=job.video_id,
            status=status,
            start_seconds=np.nan if job.start_seconds is None else job.start_seconds,
            end_seconds=np.nan if job.end_seconds is None else job.end_seconds,
            source_fps=summary.fps,
            duration_seconds=summary.duration_seconds,
            num_frames=summary.num_frames,
            width=summary.width,
            height=summary.height,
            rotation=summary.rotation,
            crop=summary.crop_rectangle,
            colour_matrix=summary.colour_matrix,
            colour_range=summary.colour_range,
            draws=summary.draws,
            **media,
        )
        self._end(job, record)

    def _media_of(self, job: VideoJob) -> dict[str, Any]:
        """Return the file's identity; `DecodeError` if it is not the file that was planned."""
        try:
            media = media_fields(job.path)
        except OSError as err:
            message = f"{job.path} vanished while it was read: {err}"
            raise DecodeError(message, reason="unreadable") from None
        planned = job.media_bytes is None or (job.media_bytes, job.media_mtime_ns) == (
            media["media_bytes"],
            media["media_mtime_ns"],
        )
        if not planned or self._draw_key not in (None, media["media_sha256"]):
            raise DecodeError(f"{job.path} changed while it was read", reason="unreadable")
        return media

    def _drop(self, job: VideoJob, error: DecodeError, *, num_frames: int = 0) -> None:
        self._writer.abandon()
        self._on_failure(VideoFailure(job, error, num_frames, is_kept=False))
        self._end(job, None)

    def _end(self, job: VideoJob, record: VideoRecord | None) -> None:
        self._previous = {}
        self._num_frames = 0
        assert self._in_work is not None, "a video is in work"
        is_partial = record is not None and record.status == "partial"
        failed = (job.video_id,) if record is None else ()
        self._in_work.count(num_videos=1, num_partial=int(is_partial), failed=failed)
        self._on_video(record)
