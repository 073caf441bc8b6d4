"""Units of extraction as plain data: which videos, and what became of them.

A unit is what a worker does at a time. It can be written as JSON and sent anywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class VideoJob:
    """One video to extract: its id, file and time span, and an upper estimate of its frames.

    Attributes:
        media_bytes, media_mtime_ns: of the file when it was planned; None where there was none.
    """

    video_id: str
    file: str
    start_seconds: float | None
    end_seconds: float | None
    max_frames: int
    media_bytes: int | None = None
    media_mtime_ns: int | None = None

    @property
    def path(self) -> Path:
        """Of its file."""
        return Path(self.file)


@dataclass(frozen=True)
class Unit:
    """Videos that become a shard, or more where they are longer than was planned.

    Attributes:
        name: of its shard, given when it is planned.
        supersedes: unit of the store -> ids of videos that lie there until now.
        seconds: that it is expected to take; None where that was not measured.
    """

    name: str
    videos: tuple[VideoJob, ...]
    supersedes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def num_frames(self) -> int:
        """Upper estimate of its frames."""
        return sum(job.max_frames for job in self.videos)


@dataclass(frozen=True)
class UnitReport:
    """What became of a unit. Why videos failed is in the ledger.

    Attributes:
        unit: its name.
        num_videos: that were done, in whatever way; fewer than it has where there was no time left.
        num_partial: those of them that broke off, whose first frames the store has.
        failed: ids of those that the store does not have.
        num_frames: written, those of videos that failed later among them.
    """

    unit: str
    num_videos: int = 0
    num_partial: int = 0
    failed: tuple[str, ...] = ()
    num_frames: int = 0

    def plus(self, more: "UnitReport") -> "UnitReport":
        """Return what became of the unit, with what became of more of its videos."""
        return UnitReport(
            self.unit,
            self.num_videos + more.num_videos,
            self.num_partial + more.num_partial,
            self.failed + more.failed,
            self.num_frames + more.num_frames,
        )
