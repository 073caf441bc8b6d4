"""Which file a video is: its content, size and time."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from features_store.format.disk import file_sha256


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
