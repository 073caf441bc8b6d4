"""Files that are on the disk when we say so: fsync, reserved space, checksums."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from features_store.errors import MachineError
from features_store.format.regular_file import RegularFile


def fsync_path(path: Path) -> None:
    """Bring a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class EarlySync:
    """Brings a file to the disk while more is written to it, so that little is left for its fsync.

    Args:
        descriptor: of the file, open until `close`.
    """

    STEP_BYTES = 2**26

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pool = ThreadPoolExecutor(1, "sync")
        self._running: Future[None] | None = None
        self._num_new = 0

    def wrote(self, num_bytes: int) -> None:
        """Take note of bytes; never waits for the disk.

        Raises:
            OSError: what was written earlier could not be brought to the disk.
        """
        self._num_new += num_bytes
        if self._num_new >= self.STEP_BYTES and (self._running is None or self._running.done()):
            self._wait()
            self._num_new = 0
            self._running = self._pool.submit(os.fdatasync, self._descriptor)

    def close(self) -> None:
        """Wait for what is under way; raises as `wrote` does."""
        self._pool.shutdown()
        self._wait()

    def _wait(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.result()


class Reservation:
    """Disk space taken before HDF5 writes into it: HDF5 crashes where a disk is full.

    Args:
        path: a file that is open for writing elsewhere.
    """

    STEP_BYTES = 2**26

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reserved = 0
        self._is_possible = True

    def reach(self, num_bytes: int, *, ahead: int = 0) -> None:
        """Take the space of the first `num_bytes` of the file, and some more if there is any.

        Raises:
            MachineError: the space is not there.
        """
        if num_bytes <= self._reserved or not self._is_possible:
            return
        with self._path.open("r+b") as file:
            for size in (num_bytes + ahead, num_bytes):
                try:
                    os.posix_fallocate(file.fileno(), self._reserved, size - self._reserved)
                except OSError as err:
                    if err.errno in (errno.ENOSPC, errno.EDQUOT):
                        continue
                    if err.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                        raise
                    self._is_possible = False  # not on this file system
                self._reserved = size
                return
        raise no_space(self._path, num_bytes)


def require_space(folder: Path, num_bytes: int) -> None:
    """Raise `MachineError` unless a file of this size fits into a folder."""
    probe = folder / f".space.{secrets.token_hex(4)}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(probe, flags, 0o666), "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(num_bytes, 1))
    except OSError as err:
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(folder, num_bytes) from err
        if err.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
    finally:
        probe.unlink(missing_ok=True)


def no_space(path: Path, num_bytes: int) -> MachineError:
    """Return the error for a file or folder that cannot take so many bytes."""
    folder = path if path.is_dir() else path.parent
    free = shutil.disk_usage(folder).free
    return MachineError(
        f"no space in {folder}: {num_bytes / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free; "
        "free some and run the same command again"
    )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_checksum(path: Path) -> str:
    """Return xxh3-128 of a regular file, in hex; no link is followed."""
    with RegularFile(path) as file:
        return file.checksum()


def fsync_and_check(path: Path) -> str:
    """Bring a file to the disk; return its checksum, found meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        on_disk = pool.submit(fsync_path, path)
        checksum = file_checksum(path)
        on_disk.result()
    return checksum
