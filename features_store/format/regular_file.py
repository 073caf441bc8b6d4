"""A file that is open to be read: a regular one, by its descriptor.

Touching a map kills the process where the file was cut, or its disk fails; `pread` says so, but
takes a third longer. So windows alone, which training reads again and again, are taken from a map.
"""

from __future__ import annotations

import mmap
import os
import stat
import weakref
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash

from features_store.errors import DamageError, UnsafeStoreError

BLOCK_BYTES = 2**20
MAX_TEXT_BYTES, MAX_LINE_BYTES = 2**30, 2**16


class RegularFile:
    """A regular file; closed when nothing holds it any more.

    Any threads may read from it, and forked processes may go on doing so.

    Args:
        follow: whether a link is followed, as where a user names the file; in a store none is.

    Attributes:
        num_bytes: when it was opened.

    Raises:
        FileNotFoundError: there is none.
        UnsafeStoreError: it is a link, a pipe or a device: reading that might not end.
        DamageError: it is a folder.
    """

    def __init__(self, path: Path, *, follow: bool = False) -> None:
        self.path = path
        if not follow:
            check_own(path)
        # A pipe that takes the place of the file just now is not waited for.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        self._descriptor = os.open(path, flags)
        self._close = weakref.finalize(self, os.close, self._descriptor)
        status = os.fstat(self._descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise DamageError(f"{path} is a folder, expected a file")
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeStoreError(f"{path} is no regular file; do not use it")
        self.num_bytes = status.st_size

    def __enter__(self) -> RegularFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, offset: int, num_bytes: int) -> bytes:
        """Return so many bytes; raise `DamageError` where the file has not got them."""
        if not 0 <= offset <= offset + num_bytes <= self.num_bytes:
            raise DamageError(
                f"{self.path} has {self.num_bytes} bytes, and is said to hold something at "
                f"{offset} to {offset + num_bytes}"
            )
        data = os.pread(self._descriptor, num_bytes, offset)
        if len(data) < num_bytes:
            buffer = bytearray(num_bytes)
            self.read_into(memoryview(buffer), offset)
            return bytes(buffer)
        return data

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer of bytes; raise `DamageError` where the file was cut meanwhile."""
        while buffer:
            found = os.preadv(self._descriptor, [buffer], offset)
            if not found:
                self.require_whole()
                raise DamageError(f"{self.path} changes while it is read; copy it again")
            buffer, offset = buffer[found:], offset + found

    @cached_property
    def mapped(self) -> np.ndarray:
        """All bytes, read when they are used; see `require_whole`."""
        file_map = mmap.mmap(self._descriptor, self.num_bytes, prot=mmap.PROT_READ)
        return np.frombuffer(file_map, np.uint8)

    def require_whole(self) -> None:
        """Raise `DamageError` where the file was cut, which touching its map would not survive."""
        num_bytes = os.fstat(self._descriptor).st_size
        if num_bytes < self.num_bytes:
            raise DamageError(
                f"{self.path} was cut off at {num_bytes} of {self.num_bytes} bytes while it was "
                "open; copy it again"
            )

    def content(self) -> bytes:
        """Return all of it."""
        return self.read(0, self.num_bytes)

    def lines(self) -> Iterator[str]:
        """Yield the lines of a text, without those longer than `MAX_LINE_BYTES`.

        Raises:
            DamageError: it has more than `MAX_TEXT_BYTES`.
        """
        if self.num_bytes > MAX_TEXT_BYTES:
            raise DamageError(
                f"{self.path} has {self.num_bytes} bytes, more than {MAX_TEXT_BYTES}; remove it"
            )
        begun = b""
        for start in range(0, self.num_bytes, BLOCK_BYTES):
            block = self.read(start, min(BLOCK_BYTES, self.num_bytes - start))
            *whole, begun = (begun + block).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole if _is_short(line))
            begun = begun[: MAX_LINE_BYTES + 1]  # as much as tells that it is too long
        if begun and _is_short(begun):
            yield begun.decode(errors="replace")

    def checksum(self) -> str:
        """Return xxh3-128 of all of it, in hex: it finds any damage at the speed of reading."""
        hasher, buffer = xxhash.xxh3_128(), memoryview(bytearray(BLOCK_BYTES))
        for start in range(0, self.num_bytes, BLOCK_BYTES):
            block = buffer[: self.num_bytes - start]
            self.read_into(block, start)
            hasher.update(block)
        return hasher.hexdigest()


def _is_short(line: bytes) -> bool:
    return len(line) <= MAX_LINE_BYTES


def check_own(path: Path) -> None:
    """Raise `UnsafeStoreError` unless a path is nothing yet, a regular file or a folder: no link.

    Reading a device or a pipe would not end, and a link can lead anywhere.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISLNK(mode):
        raise UnsafeStoreError(
            f"{path} is a link to {path.readlink()}, maybe outside the store; a store holds no "
            "links: put what it points to in its place, or do not use it"
        )
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UnsafeStoreError(f"{path} is neither a file nor a folder; do not use this store")


def check_own_folder(path: Path) -> None:
    """Raise as `check_own` does, and `DamageError` for a file where a folder belongs."""
    check_own(path)
    if path.exists() and not path.is_dir():
        raise DamageError(f"{path} is a file, expected a folder; move it away")
