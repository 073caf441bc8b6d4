"""What there is to do: which videos, in which units, with room for how many frames. Data only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path

from extract.unit import Unit, VideoJob
from extract.video.counts import NO_HEADER, FrameCount, count_frames
from extract.video.header import VideoHeader
from extract.video.media import media_fields
from features_store.format.layout import SHARD_BYTES, ArraySpec, split_units
from features_store.format.records import VideoRecord
from features_store.ledger import Failure
from features_store.manifest import ManifestRow
from features_store.session import StoreSession
from features_store.spec import Sampling
from pipelines.extraction.header_cache import HeaderCache
from pipelines.extraction.headers import ReadHeaders, survey_headers
from pipelines.extraction.options import StoreOptions
from pipelines.extraction.retries import Attempts
from pipelines.extraction.sources import Source

UNITS_PER_PROCESS = 8  # so that all processes end at about the same time
UNIT_SECONDS = 300.0  # so that what a worker that dies takes along is little, and so is overhead
MIN_FRAME_BYTES = 16  # of a frame that repeats the one before, and its entry in an index


@dataclass
class ExtractionPlan:
    """Units, and the videos that are done already.

    Attributes:
        done: ids that the store has, of files that are still the same.
        partial: those of them of which the store has the frames before a break alone.
        failed_before: what the ledger says of videos that are not tried again.
        replaced: ids in the units that the store has already.
    """

    units: list[Unit] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    failed_before: list[Failure] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)

    @property
    def num_jobs(self) -> int:
        """Videos to extract."""
        return sum(len(unit.videos) for unit in self.units)

    @property
    def num_frames(self) -> int:
        """Upper estimate of their frames."""
        return sum(unit.num_frames for unit in self.units)


def plan_extraction(
    source: Source,
    options: StoreOptions,
    store: StoreSession,
    *,
    processes: int,
    attempts: Attempts,
    cache: HeaderCache,
    read_headers: ReadHeaders,
    frame_seconds: float | None = None,
) -> ExtractionPlan:
    """Compare a source with what a store has, find the headers of the rest, cut it into units.

    Args:
        options: `partial` says whether a video that breaks off is done when its first frames are
            in the store; `retry_failed` tries every video again that failed or is partial.
        processes: that will work on it, as far as is known.
        attempts: of the runs before; a failure that stands is not tried again.
        read_headers: of the files that neither manifest nor cache knows.
        frame_seconds: that a worker takes for a frame, by which units take minutes; None where
            that was not measured.
    """
    partial, retry_failed = options.partial, options.retry_failed
    plan = ExtractionPlan()
    rows, jobs = [], []
    for row in source.rows:
        path, record = source.path(row), store.find(row.video_id)
        stored = record if record and _is_done(row, path, record, rehash=options.rehash) else None
        is_partial = stored is not None and stored.status == "partial"
        if stored is not None and (not is_partial or (partial == "keep" and not retry_failed)):
            plan.done.append(row.video_id)
            plan.partial += [row.video_id] * is_partial
            continue
        job = _job(row, path)
        failure = None if retry_failed else attempts.verdict(job, partial=partial)
        if failure is not None:
            plan.failed_before.append(failure)
            # A run that kept partial videos stored it; it failed by this run's policy.
            plan.done += [row.video_id] * is_partial
            plan.partial += [row.video_id] * is_partial
            continue
        if record is not None:
            plan.replaced.append(row.video_id)
        rows.append(row)
        jobs.append(job)
    headers = survey_headers(source.root, rows, cache=cache, read=read_headers).headers
    arrays = store.header.arrays
    room = rooms(count_rows(rows, headers, options.sampling), arrays)
    jobs = [_with_room(job, num_frames) for job, num_frames in zip(jobs, room, strict=True)]
    plan.units = _cut(jobs, store, processes=processes, frame_seconds=frame_seconds)
    return plan


def _cut(
    jobs: Sequence[VideoJob],
    store: StoreSession,
    *,
    processes: int,
    frame_seconds: float | None,
) -> list[Unit]:
    """Return units of consecutive videos; of few videos several for each process."""
    lengths, row_bytes = [job.max_frames for job in jobs], row_bytes_of(store.header.arrays)
    shard_bytes = SHARD_BYTES
    if processes > 1:
        most = row_bytes * sum(lengths) // (processes * UNITS_PER_PROCESS)
        shard_bytes = min(max(most, 1), SHARD_BYTES)
    if frame_seconds is not None:
        shard_bytes = min(shard_bytes, max(1, int(row_bytes * UNIT_SECONDS / frame_seconds)))
    units = []
    most_videos = store.header.max_unit_videos
    for positions in split_units(
        lengths, row_bytes=row_bytes, shard_bytes=shard_bytes, most_videos=most_videos
    ):
        videos = tuple(jobs[i] for i in positions)
        num_frames = sum(job.max_frames for job in videos)
        seconds = None if frame_seconds is None else round(num_frames * frame_seconds, 1)
        units.append(Unit(store.new_name(), videos, _superseded(videos, store), seconds))
    return units


def _superseded(videos: Sequence[VideoJob], store: StoreSession) -> dict[str, tuple[str, ...]]:
    """Return unit of the store -> those of the videos that lie there until now."""
    found: dict[str, tuple[str, ...]] = {}
    for job in videos:
        if (unit := store.unit_of(job.video_id)) is not None:
            found[unit] = (*found.get(unit, ()), job.video_id)
    return found


def _is_done(row: ManifestRow, path: Path, record: VideoRecord, *, rehash: bool) -> bool:
    said = (row.start_seconds, row.end_seconds)
    stored = (record.start_seconds, record.end_seconds)
    same_span = all(isnan(b) if a is None else a == b for a, b in zip(said, stored, strict=True))
    return same_span and is_same_media(path, record, rehash=rehash)


def is_same_media(path: Path, record: VideoRecord, *, rehash: bool) -> bool:
    """Whether a file still is what was extracted: by size and time, else by its SHA-256.

    A file that is gone counts as the same: its features are still those of that video.
    """
    try:
        status = path.stat()
        if status.st_size != record.media_bytes:
            return False
        if status.st_mtime_ns == record.media_mtime_ns and not rehash:
            return True
        return bool(media_fields(path)["media_sha256"] == record.media_sha256)
    except OSError:
        return True


def _job(row: ManifestRow, path: Path) -> VideoJob:
    job = VideoJob(row.video_id, str(path), row.start_seconds, row.end_seconds, max_frames=1)
    try:
        status = path.stat()
    except OSError:
        return job
    return replace(job, media_bytes=status.st_size, media_mtime_ns=status.st_mtime_ns)


def _with_room(job: VideoJob, num_frames: int) -> VideoJob:
    # Headers lie, and space is taken for what they say.
    most = (job.media_bytes or 0) // MIN_FRAME_BYTES
    return replace(job, max_frames=max(1, min(num_frames, most)))


def count_rows(
    rows: Sequence[ManifestRow], headers: Sequence[VideoHeader | None], sampling: Sampling
) -> list[FrameCount]:
    """Return the frames of each row, by its header."""
    # Many rows share a header, as one object: comparing fractions takes longer than counting.
    known: dict[tuple[int, float | None, float | None], FrameCount] = {}
    counts = []
    for row, header in zip(rows, headers, strict=True):
        key = (id(header), row.start_seconds, row.end_seconds)
        if key not in known:
            known[key] = (
                NO_HEADER
                if header is None
                else count_frames(header, sampling, row.start_seconds, row.end_seconds)
            )
        counts.append(known[key])
    return counts


def rooms(counts: Sequence[FrameCount], arrays: Sequence[ArraySpec]) -> list[int]:
    """Return for how many frames of each row there is to be room in its shard."""
    # Headers lie; a video that does need more moves to a larger shard. Where they count, no row is
    # left over, and the shard is sealed as it is: to copy one takes longer than to compute it.
    most = SHARD_BYTES // row_bytes_of(arrays)
    return [min(count.kept if count.is_counted else count.most, most) for count in counts]


def row_bytes_of(arrays: Sequence[ArraySpec]) -> int:
    """Return the bytes of one frame in all arrays, as read."""
    return sum(array.row_bytes for array in arrays)
