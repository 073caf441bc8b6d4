"""The one way in which files are written: whole or not at all, and through no link.

A file is written under a name that nobody can foresee, brought to the disk, and given its own name.
Below the folder that the user chose, folders are opened one after the other, each within the one
before: a link that waits there leads nowhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from features_store.errors import ContractError, DamageError

LEFTOVER_SECONDS = 3600.0
_COMPARED_BYTES, _TAIL_BYTES = 2**20, 2**16
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextlib.contextmanager
def new_file(path: Path, *, below: Path | None = None, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Write a file that has its name when the block ends well, and else is not there.

    Args:
        below: the folder that the user chose, which exists; folders from there to the file are
            made, and none may be a link. None is the file's own folder.
        mode: its permissions, less those that the umask takes.

    Raises:
        ContractError: a folder below that one is a link, or a file.
        DamageError: the file's name is that of a folder.
    """
    with _folder_of(path, below) as folder, _written_aside(folder, path, mode) as (file, temporary):
        yield file
        _finish(file)
        _give_name(folder, temporary, path)


def write_unless_same(path: Path, write: Callable[[IO[bytes]], object], *, below: Path) -> bool:
    """Write a file as `new_file` does, unless there is one of the same content.

    Returns:
        Whether it was written.
    """
    with _folder_of(path, below) as folder, _written_aside(folder, path) as (file, temporary):
        write(file)
        file.flush()
        if _holds(folder, path.name, file):
            return False
        _finish(file)
        _give_name(folder, temporary, path)
    return True


def write_atomically(
    path: Path, content: bytes, *, below: Path | None = None, mode: int = 0o666
) -> None:
    """Write a small file so that it is either the old one or the new one, whole; see `new_file`."""
    with new_file(path, below=below, mode=mode) as file:
        file.write(content)


def append_lines(path: Path, content: bytes, *, below: Path) -> None:
    """Append whole lines in one go, so that who reads meanwhile sees no part of one.

    Raises:
        ContractError: the file, or a folder below the one that the user chose, is a link.
    """
    with _opened_again(path, os.O_CREAT | os.O_APPEND, below) as file:
        file.write(content)


def cut_torn_line(path: Path, *, below: Path) -> None:
    """Take away the part of a line that a disk that was full left at the end of a file.

    Raises: as `append_lines`.
    """
    if os.path.lexists(path):
        with _opened_again(path, 0, below) as file:
            end = file.seek(0, os.SEEK_END)
            torn = b""
            while end and b"\n" not in torn:
                end = file.seek(max(end - _TAIL_BYTES, 0))
                torn = file.read(_TAIL_BYTES)
            file.truncate(end + torn.rfind(b"\n") + 1)


def make_folder(path: Path, *, below: Path) -> None:
    """Make the folders from the one that the user chose to this one; raises as `new_file`."""
    with _folder_of(path / "any", below):
        pass


def link_new(path: Path, content: bytes) -> bool:
    """Write a small file whole, unless there is one of that name; return whether it was written.

    Of all who try only one succeeds, on network disks too.
    """
    with _folder_of(path, None) as folder, _written_aside(folder, path) as (file, temporary):
        file.write(content)
        _finish(file)
        try:
            os.link(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except FileExistsError:
            return False
        os.fsync(folder)
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left of their whole-or-nothing writes, once it is an hour old."""
    for path in folder.glob(".*.new"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.lstat().st_mtime > LEFTOVER_SECONDS:
                path.unlink()


@contextlib.contextmanager
def _opened_again(path: Path, flags: int, below: Path) -> Iterator[IO[bytes]]:
    """Open a file that may be there, to be changed in its place."""
    flags |= os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with _folder_of(path, below) as folder:
        try:
            descriptor = os.open(path.name, flags, 0o666, dir_fd=folder)
        except OSError as err:
            if err.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise
            raise _no_file(path) from None
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _no_file(path)
            yield file


def _no_file(path: Path) -> ContractError:
    return ContractError(
        f"{path} is a link or no regular file: nothing is written through it; remove it"
    )


@contextlib.contextmanager
def _folder_of(path: Path, below: Path | None) -> Iterator[int]:
    """Open the folder of a file, made where it is missing; yield its descriptor."""
    at = path.parent if below is None else below
    descriptor = os.open(at, _FOLDER)
    try:
        for name in path.parent.relative_to(at).parts:
            at = at / name
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=descriptor)
            try:
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            except OSError as err:
                if err.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                raise ContractError(
                    f"{at} is a link or a file, expected a folder: nothing is written through a "
                    "link; remove it, or give another folder"
                ) from None
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _written_aside(folder: int, path: Path, mode: int = 0o666) -> Iterator[tuple[IO[bytes], str]]:
    """Open a new file under a name that it loses at the end."""
    temporary = f".{path.name[:50]}.{secrets.token_hex(8)}.new"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, mode, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file, temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)


def _finish(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _give_name(folder: int, temporary: str, path: Path) -> None:
    try:
        os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    except IsADirectoryError:
        raise DamageError(f"{path} is a folder, expected a file; move it away") from None
    os.fsync(folder)


def _holds(folder: int, name: str, file: IO[bytes]) -> bool:
    """Whether a folder has a regular file of that name with the content of `file`."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError:
        return False  # no file, a link, or one that nobody can read: it is written anew
    with os.fdopen(descriptor, "rb") as there:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != file.seek(0, os.SEEK_END):
            return False
        file.seek(0)
        while block := file.read(_COMPARED_BYTES):
            if there.read(_COMPARED_BYTES) != block:
                return False
    return True
