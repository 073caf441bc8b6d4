"""Files that are on the disk when we say so: fsync, reserved space, whole-or-nothing writes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from features_store.errors import MachineError


def fsync_path(path: Path) -> None:
    """Bring a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reserve(path: Path) -> None:
    """Take the disk space of a pre-sized file now, so that a full disk is met before the rows.

    Raises:
        MachineError: the space is not there.
    """
    num_bytes = path.stat().st_size
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        except OSError as err:
            if err.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return  # a file system that cannot reserve
            if err.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            free = shutil.disk_usage(path.parent).free
            raise MachineError(
                f"no space for {path}: it needs {num_bytes / 1e6:.1f} MB, {free / 1e6:.1f} MB are "
                "free; free some and run the same command again"
            ) from err


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_and_hash(path: Path) -> str:
    """Bring a file to the disk; return its SHA-256, found meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        on_disk = pool.submit(fsync_path, path)
        digest = file_sha256(path)
        on_disk.result()
    return digest


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file so that it is either the old one or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)
