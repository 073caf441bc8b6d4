"""The lock of a store's one writer: ``.lock``, held as long as its file is open."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from features_store.errors import StoreError
from features_store.format.safety import check_own


def lock_store(path: Path) -> IO[str]:
    """Take the writer's lock; it is given back when the returned file is closed.

    Raises:
        StoreError: somebody else has it.
    """
    check_own(path / ".lock")
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    lock = os.fdopen(os.open(path / ".lock", flags, 0o666), "a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read() or "another process"
        lock.close()
        raise StoreError(
            f"{path} is being written by {owner}; wait for it, or write to another store"
        ) from None
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {os.uname().nodename}")
    lock.flush()
    return lock
