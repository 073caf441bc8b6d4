"""Memory that processes of one machine share: an unlinked file, gone with its last user."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO

from features_store.errors import MachineError


def unlinked_file(num_bytes: int, *, what: str) -> IO[bytes]:
    """Return a file of that size that has no name, in memory when possible.

    Args:
        what: it is for, for the error.

    Raises:
        MachineError: there is no room, neither in memory nor on disk.
    """
    for directory in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        try:
            file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 (the caller closes it)
        except OSError:
            continue
        try:
            # Reserved now: a full file system would otherwise kill the writer with SIGBUS.
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        except OSError:
            file.close()
            continue
        return file
    raise MachineError(
        f"no room for {num_bytes / 1e6:.0f} MB of {what} in /dev/shm or {tempfile.gettempdir()}; "
        "free some, or use fewer slots, workers or processes"
    )
