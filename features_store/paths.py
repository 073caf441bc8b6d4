"""Paths that people give: what has to lie there, checked in one way and said in the same words.

The command line checks them before it imports anything (`checked` is for Typer), libraries when
they use them. A path where nothing lies, or something else than is wanted, is a mistake of the
command, and no fault of the data: `UsageError`. What must not be read or written is the machine's
affair: `MachineError`.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from features_store.errors import ContractError, MachineError, UsageError

STORE_FILE, RUN_FILE = "store.json", "run.json"
OTHER = "pipe or device"
LISTED = 1000  # names of a folder among which near ones are looked for


@dataclass(frozen=True)
class PathKind:
    """One kind of thing that has to lie where a path says.

    Attributes:
        name: as messages call it.
        expected: what to give, or to do.
        takes: what may lie there.
        holds: a file that it must hold, if it is a folder.
        suffixes: of its name, if it is a file; any if there is none.
        is_data: an empty file or folder is refused as what it is: data that break a contract.
    """

    name: str
    expected: str
    takes: tuple[str, ...] = ("file", "folder")
    holds: str = ""
    suffixes: tuple[str, ...] = ()
    is_data: bool = False

    @property
    def checked(self) -> dict[str, Any]:
        """What Typer is told of an argument or option, so that this is what checks it."""
        return {"callback": self.given, "readable": False}

    def given(self, value: Any) -> Any:
        """Check a path, several, or none, and return them."""
        paths: Iterable[str | Path] = value if isinstance(value, list | tuple) else [value]
        for path in paths:
            if path is not None:
                self.require(path)
        return value

    def require(self, path: str | Path) -> Path:
        """Return the path.

        Raises:
            UsageError: nothing lies there, or something else.
            ContractError: it is empty.
            MachineError: there is no permission to read it.
        """
        path = Path(path)
        mode = _mode_of(path, self.name)
        if mode is None:
            raise UsageError(f"no {self.name} {str(path)!r}; {_near(path)}{self.expected}")
        what = _what_of(mode)
        if what not in self.takes:
            raise UsageError(self._otherwise(path))
        if not os.access(path, os.R_OK | (os.X_OK if what == "folder" else 0)):
            raise _forbidden("read", self.name, path)
        if not self._fits(path, what):
            raise UsageError(self._otherwise(path))
        if self.is_data and _is_empty(path, what):
            raise ContractError(f"{self.name} {str(path)!r} is empty; {self.expected}")
        return path

    def _fits(self, path: Path, what: str) -> bool:
        if what == "folder":
            return os.path.lexists(path / self.holds)
        return path.name.endswith(self.suffixes or "")

    def _otherwise(self, path: Path) -> str:
        what = what_is(path)
        said = f"{str(path)!r} is {what}, not a {self.name}"
        if what in ("a store", "a checkpoint", "a run folder"):
            return f"{said}: are two arguments swapped? {self.expected}"
        if self.holds and what == "a folder":
            said += f" (no {self.holds} in it)"
        return f"{said}; {self.expected}"


@dataclass(frozen=True)
class SourceKind(PathKind):
    """Videos to extract: also the files that a pattern such as ``videos/*.mp4`` matches."""

    def require(self, path: str | Path) -> Path:
        """Return the path, or the pattern, which matches something; raises as `PathKind` does."""
        path = Path(path)
        if is_pattern(path):
            if next(glob.iglob(str(path), recursive=True), None) is None:  # noqa: PTH207 (any path)
                raise UsageError(f"no {self.name} {str(path)!r}: nothing matches; {self.expected}")
            return path
        if what_is(path) in ("a store", "a run folder"):
            raise UsageError(self._otherwise(path))
        return super().require(path)


@dataclass(frozen=True)
class CheckpointKind(PathKind):
    """A checkpoint: named by either of its two files, or without a suffix."""

    def require(self, path: str | Path) -> Path:
        """Return the path of its description; raises as `PathKind` does."""
        path = Path(path)
        if path.suffix in ("", ".safetensors") and not path.is_dir():
            path = path.with_suffix(".json")
        return super().require(path)

    def _otherwise(self, path: Path) -> str:
        if what_is(path) != "a run folder":
            return super()._otherwise(path)
        there = sorted(path.glob("checkpoints/*/*.json"))[:1] or [path / "checkpoints"]
        return (
            f"{str(path)!r} is a run folder, not a {self.name}; {self.expected}, such as {there[0]}"
        )


@dataclass(frozen=True)
class NewKind(PathKind):
    """A file or folder that is to be written; it, and folders above it, may not be there yet."""

    def require(self, path: str | Path) -> Path:
        """Return the path.

        Raises:
            UsageError: something else lies there, or above it.
            MachineError: there is no permission to write there.
        """
        path = Path(path)
        mode = _mode_of(path, self.name)
        if mode is not None and _what_of(mode) not in self.takes:
            raise UsageError(self._otherwise(path))
        there = next(p for p in (path, *path.absolute().parents) if os.path.lexists(p))
        if there != path and not there.is_dir():
            raise UsageError(f"{str(there)!r} is {what_is(there)}, not a folder; {self.expected}")
        if not os.access(there, os.W_OK | (os.X_OK if there.is_dir() else 0)):
            raise _forbidden("write", self.name, path)
        return path


FOLDER = PathKind("folder", "give a folder that is there", takes=("folder",))
STORE = PathKind("store", "'cubereel extract' makes one", takes=("folder",), holds=STORE_FILE)
RUN = PathKind("run folder", "'cubereel train' makes one", takes=("folder",), holds=RUN_FILE)
CHECKPOINT = CheckpointKind(
    "checkpoint", "give a .json of a run folder's checkpoints", takes=("file",), suffixes=(".json",)
)
SOURCE = SourceKind(
    "source",
    "give a folder of class folders, a manifest CSV, a list of paths, or videos",
    is_data=True,
)
FEATURES = PathKind("source", "give the folder or the file to import", is_data=True)
MANIFEST = PathKind(
    "manifest", "give a CSV, a folder with a manifest.csv, or a store", is_data=True
)
VIDEO = PathKind("video", "give a video file", takes=("file",))
WEIGHTS = PathKind("weights", "give a file of safetensors or of torch.save", takes=("file",))
CONFIG = PathKind("configuration", "give a TOML file", takes=("file",))
TABLE = PathKind("table", "give a TOML file", takes=("file",), suffixes=(".toml",))
ID_LIST = PathKind("list of ids", "give a text file with a video id a line", takes=("file",))
ANNOTATIONS = PathKind("annotations", "give a JSON file", takes=("file",))
SCHEDULER = PathKind(
    "scheduler file", "start 'dask scheduler', and tell it to write one", takes=("file",)
)
NEW_FOLDER = NewKind("folder", "give a new folder", takes=("folder",))
NEW_FILE = NewKind("file", "give a new file", takes=("file",))


def is_pattern(path: Path) -> bool:
    """Whether a path is no file or folder, but a pattern for those of several."""
    return glob.has_magic(str(path)) and not os.path.lexists(path)


def fixed_folder(pattern: Path) -> Path:
    """Return the folder that a pattern's matches lie below: its part without wildcards.

    >>> fixed_folder(Path("videos/*/*.mp4")).name
    'videos'
    """
    folder = pattern.parent
    while glob.has_magic(str(folder)) and not folder.exists():
        folder = folder.parent
    return folder


def what_is(path: Path) -> str:
    """Say what lies at a path, as far as it shows from outside."""
    if path.is_dir():
        if os.path.lexists(path / STORE_FILE):
            return "a store"
        return "a run folder" if os.path.lexists(path / RUN_FILE) else "a folder"
    if path.exists() and not path.is_file():
        return f"a {OTHER}"
    is_checkpoint = path.suffix == ".json" and path.with_suffix(".safetensors").is_file()
    return "a checkpoint" if is_checkpoint else "a file"


def _mode_of(path: Path, name: str) -> int | None:
    """Return what kind of entry lies at a path; None where none does."""
    try:
        return path.stat().st_mode
    except PermissionError:
        raise _forbidden("read", name, path) from None
    except OSError:
        return None


def _what_of(mode: int) -> str:
    """Return what lies there; reading a pipe or a device might never end, so it is no file."""
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else OTHER


def _is_empty(path: Path, what: str) -> bool:
    if what == "folder":
        return not any(path.iterdir())
    return not path.stat().st_size


def _forbidden(what: str, name: str, path: Path) -> MachineError:
    return MachineError(
        f"no permission to {what} {name} {str(path)!r}; have it given to you, or take another path"
    )


def _near(path: Path) -> str:
    """Say what lies beside a path under a near name."""
    names: Sequence[str] = ()
    with suppress(OSError):
        names = os.listdir(path.parent)[:LISTED]  # noqa: PTH208 (names, not paths)
    close = get_close_matches(path.name, names, n=1)
    return f"did you mean {str(path.parent / close[0])!r}? " if close else ""
