"""Units of extraction as plain data: which videos, and what became of them.

A unit is what a worker does at a time. It can be written as JSON and sent anywhere.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from features_store.format.disk import file_sha256
from features_store.spec import canonical_json


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
        spec_digest: of the store that it is for.
    """

    name: str
    spec_digest: str
    videos: tuple[VideoJob, ...]

    @property
    def id(self) -> str:
        """SHA-256 of what is asked for: the spec, and each video's id and span; nothing is read."""
        asked = [[job.video_id, job.start_seconds, job.end_seconds] for job in self.videos]
        document = {"spec_digest": self.spec_digest, "videos": asked}
        return hashlib.sha256(canonical_json(document)).hexdigest()

    @property
    def num_frames(self) -> int:
        """Upper estimate of its frames."""
        return sum(job.max_frames for job in self.videos)


@dataclass(frozen=True)
class UnitReport:
    """What became of a unit. Why videos failed is in the ledger.

    Attributes:
        unit: its id.
        num_videos: that were done, in whatever way; fewer than it has where there was no time left.
        num_partial, num_failed: those of them that broke off, or that the store does not have.
        num_frames: written, those of videos that failed later among them.
    """

    unit: str
    num_videos: int = 0
    num_partial: int = 0
    num_failed: int = 0
    num_frames: int = 0

    @property
    def num_extracted(self) -> int:
        """Videos that the store has now."""
        return self.num_videos - self.num_failed


def draw_key_of(path: Path) -> str:
    """Return the SHA-256 of a file, on which its draws depend: not on where it lies.

    Nothing is drawn of what is no regular file or cannot be read: whoever decodes it says why.
    """
    if not path.is_file():  # a pipe has no end
        return ""
    try:
        return str(media_fields(path)["media_sha256"])
    except OSError:
        return ""


def media_fields(path: Path) -> dict[str, Any]:
    """Return a file's identity: SHA-256, size and modification time."""
    status = path.stat()
    return {
        "media_sha256": _sha256(path, status.st_ino, status.st_size, status.st_mtime_ns),
        "media_bytes": status.st_size,
        "media_mtime_ns": status.st_mtime_ns,
    }


@lru_cache(64)
def _sha256(path: Path, *_identity: int) -> str:
    # A file of which hundreds of time spans are videos is read for this once.
    return file_sha256(path)
