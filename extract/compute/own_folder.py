"""Folders of machine code: nobody but this user, and root, can have put anything there."""

import os
import stat
from pathlib import Path

from features_store.errors import MachineError


def require_own_folder(folder: Path) -> None:
    """Raise `MachineError` for a folder that others may write, or may have written.

    Seen are every folder on the way to it, by its own path and where links lead, and all that is in
    it. What does not exist yet is left out.
    """
    me = os.getuid()
    path = folder.absolute()
    for each in (*reversed(path.parents), path):
        if each.is_symlink() and each.lstat().st_uid not in (0, me):
            raise _of_others(folder, each)
    real = Path(os.path.realpath(path))
    for each in (*reversed(real.parents), real):
        if not os.path.lexists(each):
            return
        status = each.lstat()
        # In a folder such as /tmp others add names, and take none away.
        is_shared = status.st_mode & 0o022 and not (status.st_mode & stat.S_ISVTX and each != real)
        if status.st_uid not in (0, me) or is_shared or not stat.S_ISDIR(status.st_mode):
            raise _of_others(folder, each)
    if real.lstat().st_uid != me:
        raise _of_others(folder, real)
    _require_own_content(folder, real, me)


def _require_own_content(folder: Path, real: Path, me: int) -> None:
    for parent, folders, files in os.walk(real):
        for name in (*folders, *files):
            inner = Path(parent, name)
            status = inner.lstat()
            if status.st_uid != me or stat.S_ISLNK(status.st_mode):
                raise _of_others(folder, inner)


def _of_others(folder: Path, place: Path) -> MachineError:
    return MachineError(
        f"{folder} is for machine code, and others than you may write, or have written, {place}; "
        "remove it or take their right to write it, or set XDG_CACHE_HOME to a folder of your own"
    )
