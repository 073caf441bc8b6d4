"""What there is to do: which videos, in which units, with room for how many frames. Data only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path

from extract.extractor import VideoJob, media_fields
from extract.headers import VideoHeader
from features_store.layout import SHARD_BYTES, ArraySpec, split_units
from features_store.manifest import ManifestRow
from features_store.records import VideoRecord
from features_store.spec import Sampling
from pipelines.frame_counts import NO_HEADER, FrameCount, count_frames
from pipelines.header_cache import HeaderCache
from pipelines.headers import survey_headers
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
    cache: HeaderCache,
) -> ExtractionPlan:
    """Compare a source with what a store has, find the headers of the rest, cut it into units."""
    plan = ExtractionPlan()
    rows = []
    for row in source.rows:
        record = find(row.video_id)
        if record is not None and _is_done(row, source.path(row), record, rehash=rehash):
            plan.done.append(row.video_id)
            continue
        if record is not None:
            plan.replaced.append(row.video_id)
        rows.append(row)
    headers = survey_headers(source.root, rows, cache=cache).headers
    room = rooms(count_rows(rows, headers, sampling), arrays)
    for positions in split_units(room, row_bytes=row_bytes_of(arrays)):
        plan.units.append([_job(source, rows[i], room[i]) for i in positions])
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


def _job(source: Source, row: ManifestRow, room: int) -> VideoJob:
    return VideoJob(row.video_id, source.path(row), row.start_seconds, row.end_seconds, room)


def count_rows(
    rows: Sequence[ManifestRow], headers: Sequence[VideoHeader | None], sampling: Sampling
) -> list[FrameCount]:
    """Return the frames of each row, by its header."""
    return [
        NO_HEADER
        if header is None
        else count_frames(header, sampling, row.start_seconds, row.end_seconds)
        for row, header in zip(rows, headers, strict=True)
    ]


def rooms(counts: Sequence[FrameCount], arrays: Sequence[ArraySpec]) -> list[int]:
    """Return for how many frames of each row there is to be room in its shard."""
    # Headers lie; a video that does need more moves to a larger shard.
    most = SHARD_BYTES // row_bytes_of(arrays)
    return [min(count.most, most) for count in counts]


def row_bytes_of(arrays: Sequence[ArraySpec]) -> int:
    """Return the bytes of one frame in all arrays, as read."""
    return sum(array.row_bytes for array in arrays)
