"""What there is to do: which videos, in which units, with room for how many frames. Data only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path

from extract.extractor import VideoJob, media_fields
from extract.sampling import max_kept_frames
from extract.video import probe
from features_store.errors import DecodeError
from features_store.layout import SHARD_BYTES, ArraySpec, split_units
from features_store.manifest import ManifestRow
from features_store.records import VideoRecord
from features_store.spec import Sampling
from pipelines.sources import Source


@dataclass
class ExtractionPlan:
    """Units of jobs, and the videos that are done already.

    Attributes:
        replaced: ids in the units whose file changed since they were extracted.
    """

    units: list[list[VideoJob]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)

    @property
    def num_jobs(self) -> int:
        """Videos to extract."""
        return sum(len(unit) for unit in self.units)


def plan_extraction(
    source: Source,
    *,
    sampling: Sampling,
    arrays: list[ArraySpec],
    find: Callable[[str], VideoRecord | None],
    rehash: bool,
) -> ExtractionPlan:
    """Compare a source with what a store has, read the headers of the rest, cut it into units."""
    plan = ExtractionPlan()
    jobs = []
    row_bytes = sum(array.row_bytes for array in arrays)
    for row in source.rows:
        record = find(row.video_id)
        if record is not None and _is_done(row, source.path(row), record, rehash=rehash):
            plan.done.append(row.video_id)
            continue
        if record is not None:
            plan.replaced.append(row.video_id)
        jobs.append(_job(row, source.path(row), sampling, most_frames=SHARD_BYTES // row_bytes))
    ranges = split_units([job.max_frames for job in jobs], row_bytes=row_bytes)
    plan.units = [[jobs[i] for i in positions] for positions in ranges]
    return plan


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


def _job(row: ManifestRow, path: Path, sampling: Sampling, *, most_frames: int) -> VideoJob:
    try:
        header = probe(path)
        duration, num_frames = header.duration_seconds, header.num_frames
        if row.end_seconds is not None:
            duration, num_frames = row.end_seconds - (row.start_seconds or 0), 0
        frames = max_kept_frames(
            sampling,
            duration_seconds=duration,
            num_frames_hint=num_frames,
            source_fps=header.fps,
        )
    except DecodeError:
        frames = 1  # decoding it will fail in the same way and be reported
    # Headers lie; a video that does need more moves to a larger shard.
    frames = min(max(1, frames), most_frames)
    return VideoJob(row.video_id, path, row.start_seconds, row.end_seconds, frames)
