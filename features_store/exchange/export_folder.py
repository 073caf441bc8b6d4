"""The folder that an export goes to: resumable, every file whole or absent, never someone else's.

`export.json` is written first and says what the export is, with licence, origin and citation of
the videos; it is marked finished last. An import reads it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from features_store.errors import ContractError, StoreError, UsageError
from features_store.format.outputs import write_atomically, write_unless_same
from features_store.format.safety import read_json
from features_store.paths import NEW_FOLDER

FILE_NAME = "export.json"
MAX_NAME_BYTES = 200  # file systems allow 255; the name while it is written is longer


class ExportFolder:
    """A context manager; leaving it regularly finishes the export.

    Args:
        document: what the export is. A folder with another `export.json`, or with files and none,
            is refused.

    Attributes:
        num_written: files written now; those that were there, of the same content, not counted.
    """

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self.path = path
        self.num_written = 0
        self._sources: list[str] = []
        self._document = dict(json.loads(json.dumps(document)))

    def __enter__(self) -> ExportFolder:
        _require_free(self.path, self._document)
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StoreError(
                f"another process exports to {self.path}; wait for it, or give another folder"
            ) from None
        if not (self.path / FILE_NAME).exists():
            self._mark(finished=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._mark(finished=True)
        os.close(self._lock)

    def write_source(self, name: str, write: Callable[[IO[bytes]], object]) -> None:
        """Write a file that can be imported by itself; `export.json` names it."""
        self._sources.append(name)
        self.write(name, write)

    def write(self, name: str, write: Callable[[IO[bytes]], object]) -> None:
        """Call `write` with a new file, which gets its name unless one of its content is there."""
        self.num_written += write_unless_same(self.path / name, write, below=self.path)

    def write_small(self, name: str, content: bytes) -> None:
        """Write a small file."""
        self.write(name, lambda file: file.write(content))

    def _mark(self, *, finished: bool) -> None:
        document = self._document | {"sources": self._sources, "finished": finished}
        content = json.dumps(document, indent=1)
        write_atomically(self.path / FILE_NAME, content.encode())


def _require_free(path: Path, document: Mapping[str, Any]) -> None:
    NEW_FOLDER.require(path)
    if not path.exists():
        return
    if (path / FILE_NAME).exists():
        stored = read_export(path)
        differing = [name for name in document if stored.get(name) != document[name]]
        if differing:
            name = differing[0]
            raise UsageError(
                f"{path} holds another export: its {name} is {stored.get(name)!r}, now it is "
                f"{document[name]!r}; remove it or give another folder"
            )
        return
    others = [p.name for p in path.iterdir() if not p.name.startswith(f".{FILE_NAME}.")]
    if others:
        raise UsageError(
            f"{path} holds other things than an export ({min(others)!r}); give a new folder"
        )


def read_export(path: Path) -> dict[str, Any]:
    """Return what a folder's `export.json` says; nothing where there is none."""
    try:
        document = read_json(path / FILE_NAME)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as err:
        raise ContractError(f"{path / FILE_NAME} cannot be read: {err}") from err
    if not isinstance(document, dict):
        raise ContractError(f"{path / FILE_NAME} is not a JSON object; remove it or export again")
    return document


def check_names(names: Iterable[str]) -> None:
    """Raise `UsageError` when files cannot all be written: too long, or a file is also a folder.

    >>> check_names(["a.npy", "a.npy/b.npy"])
    Traceback (most recent call last):
    features_store.errors.UsageError: 'a.npy' would be a file and, for 'a.npy/b.npy', a folder; ...
    """
    files = set()
    for name in names:
        if name in files or name.split("/")[0] == FILE_NAME:
            raise UsageError(f"two files would be named {name!r}; export one of them at a time")
        files.add(name)
    for name in sorted(files):
        parts = name.split("/")
        if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
            raise UsageError(f"{name!r} has a part of more than {MAX_NAME_BYTES} bytes")
        for depth in range(1, len(parts)):
            if (parent := "/".join(parts[:depth])) in files:
                raise UsageError(
                    f"{parent!r} would be a file and, for {name!r}, a folder; "
                    "export one of them at a time"
                )
