"""Who may write a store: one process alone, or workers beside each other.

Two locks stand side by side. ``.lock`` is the kernel's: a process that dies gives it back at once,
and earlier versions know it. It may not reach other machines on a network disk; leases below
``units/`` do, which are files that their holders touch now and then. There are workers only where
a plan made that folder.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from features_store.errors import BusyError
from features_store.format.regular_file import check_own, check_own_folder
from features_store.leases import Lease, holder_of, lease_seconds_of

logger = logging.getLogger("cubereel")
UNITS = "units"  # the folder of what workers tell each other
ALONE = "alone.lease"
WORKER = "worker-"
ALONE_SECONDS = 60.0  # after which a writer on a machine that vanished is passed over
PATIENCE_SECONDS = 10.0  # of a worker with one who has the store alone
POLL_SECONDS = 0.5


@contextmanager
def lock_store(path: Path) -> Iterator[None]:
    """Write a store alone.

    A worker whose machine is gone is waited for as long as its lease is, and then passed over.

    Raises:
        BusyError: somebody else writes.
    """
    with _flock(path, fcntl.LOCK_EX) as lock, ExitStack() as stack:
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {os.uname().nodename}")
        lock.flush()
        if (path / UNITS).exists():
            check_own_folder(path / UNITS)
            alone = stack.enter_context(_taken(path, path / UNITS / ALONE, ALONE_SECONDS, lock))
            for worker in _worker_leases(path):
                if (seconds := lease_seconds_of(worker)) is not None:
                    with _taken(path, worker, seconds, lock):
                        pass  # it was left by one that is gone
            if not alone.is_held:  # this process was stopped for so long
                raise _busy(path, holder_of(alone.path))
        yield


@contextmanager
def share_store(path: Path, *, lease_seconds: float) -> Iterator[None]:
    """Write units of a store's plan, beside other workers.

    Who has it alone is waited for a little: workers that leave have, to bring the index up to date.

    Raises:
        BusyError: somebody writes the store alone.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(_shared(path, lease_seconds))
                break
            except BusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(POLL_SECONDS)
        yield


@contextmanager
def _shared(path: Path, lease_seconds: float) -> Iterator[None]:
    check_own(path / UNITS)
    with _flock(path, fcntl.LOCK_SH) as lock:
        name = f"{WORKER}{os.getpid()}-{secrets.token_hex(4)}.lease"
        # In this order: whoever wants to be alone looks for workers after it is seen itself.
        with _taken(path, path / UNITS / name, lease_seconds, lock):
            if holder_of(path / UNITS / ALONE) is not None:
                with _taken(path, path / UNITS / ALONE, ALONE_SECONDS, lock):
                    pass
            yield


def require_free(path: Path) -> None:
    """Raise `BusyError` where somebody writes a store now, as far as that shows at once."""
    if (path / ".lock").exists():
        with lock_store(path):
            pass


@contextmanager
def _flock(path: Path, how: int) -> Iterator[IO[str]]:
    check_own(path / ".lock")
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with os.fdopen(os.open(path / ".lock", flags, 0o666), "a+") as lock:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owners = [holder_of(each) for each in _worker_leases(path)]
            known = [owner for owner in owners if owner is not None]
            raise _busy(path, known[0] if known else lock.read(200), len(known)) from None
        yield lock


@contextmanager
def _taken(path: Path, file: Path, seconds: float, lock: IO[str]) -> Iterator[Lease]:
    """Take a lease, if need be when its holder has not touched it for so long."""
    lease, is_first = Lease(file, seconds=seconds), True
    while not lease.take():
        os.utime(lock.fileno())  # so that one clock, that of the disk, tells how old it is
        if os.fstat(lock.fileno()).st_mtime - lease.touched() < seconds:
            raise _busy(path, holder_of(file), len(_worker_leases(path)))
        if is_first:
            logger.info("waiting for %.0f s: %s may be gone", seconds, holder_of(file))
            is_first = False
        time.sleep(POLL_SECONDS)
    try:
        yield lease
    finally:
        lease.release()


def _worker_leases(path: Path) -> list[Path]:
    return sorted((path / UNITS).glob(f"{WORKER}*.lease"))


def _busy(path: Path, owner: str | None, number: int = 1) -> BusyError:
    more = f" and {number - 1} more" if number > 1 else ""
    return BusyError(f"{path} is being written by {owner or 'another process'}{more}")
