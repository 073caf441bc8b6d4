"""Leases: files that say who works on something, for as long as their holder touches them.

A lease only saves work. Its holder may be stopped for so long that another one takes it, and then
go on; what must not happen twice is fenced elsewhere. How long it holds is seen by the clock of
whoever wants it, so that no machine's clock need be right.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import LeaseSettingsMismatch, OwnerRecord, SoftFileLease, Timeout

from features_store.errors import UnsafeStoreError
from features_store.format.safety import check_own

MAX_LEASE_SECONDS = 86400.0
_NO_HOST = re.compile(r"[^\w.:-]")


class Lease:
    """One lease; it can be taken, and given back, again and again, from any thread.

    Args:
        path: of its file.
        seconds: without a touch after which others may take it; the same for all.
    """

    def __init__(self, path: Path, *, seconds: float) -> None:
        self.path = path
        self._lock = SoftFileLease(path, lease_duration=seconds, thread_local=False)

    def take(self) -> bool:
        """Take it if nobody has it; one whose holder died on this machine is free at once.

        That of a machine that is gone is free when this was asked again and again for so long.

        Raises:
            FileNotFoundError: its folder is not there.
        """
        check_own(self.path)
        if self.path.is_dir():
            raise UnsafeStoreError(f"{self.path} is a folder, where a lease belongs; remove it")
        # The lock would make it again, where a store was moved.
        self.path.parent.stat()
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except LeaseSettingsMismatch as err:
            raise UnsafeStoreError(
                f"{self.path} is held for another time than the plan says; do not use this store"
            ) from err
        return True

    @property
    def is_held(self) -> bool:
        """Whether this process has it, as far as it knows."""
        return self._lock.is_locked and self._lock.compromise is None

    def release(self) -> None:
        """Give it back; nothing happens where it was lost."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._lock.release(force=True)

    def touched(self) -> float:
        """Return when it was touched last, by the clock of its disk; now where it is gone."""
        try:
            return self.path.lstat().st_mtime
        except FileNotFoundError:
            return time.time()


def holder_of(path: Path) -> str | None:
    """Say who holds a lease, and since when; None where nobody does."""
    owner = _owner_of(path)
    with suppress(FileNotFoundError):
        if owner is not None:
            seen = datetime.fromtimestamp(path.lstat().st_mtime)
            # What follows the name is of the library, such as a namespace of processes.
            host = _NO_HOST.split(owner.hostname)[0][:100]
            return f"process {owner.pid} on {host} (seen at {seen:%H:%M:%S})"
    return None


def is_silent(path: Path) -> bool:
    """Whether the holder of a lease is dead or gone, as far as that shows at once."""
    owner = _owner_of(path)
    if owner is None:
        return False
    if owner.hostname == os.uname().nodename:
        return not Path(f"/proc/{owner.pid}").exists()
    seconds = owner.lease_duration
    with suppress(FileNotFoundError):
        return seconds is not None and time.time() - path.lstat().st_mtime > seconds
    return False


def lease_seconds_of(path: Path) -> float | None:
    """Return for how long a lease is; None where there is none."""
    owner = _owner_of(path)
    if owner is None or owner.lease_duration is None:
        return None
    if not 0 < owner.lease_duration <= MAX_LEASE_SECONDS:
        raise UnsafeStoreError(f"{path} is held for {owner.lease_duration} s; remove it")
    return float(owner.lease_duration)


def _owner_of(path: Path) -> OwnerRecord | None:
    check_own(path)
    with suppress(OSError, ValueError):
        return SoftFileLease(path).owner
    return None
