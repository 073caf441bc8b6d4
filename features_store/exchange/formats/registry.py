"""The formats that features are exchanged in. A new one is a file here and its name in `FORMATS`.

A format is imported when it is used, so that a command line can name them all without HDF5.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from features_store.errors import UsageError, nearest_name

if TYPE_CHECKING:
    from features_store.exchange.export_folder import ExportFolder
    from features_store.exchange.features import Features
    from features_store.exchange.options import ImportOptions
    from features_store.exchange.selection import Selection

FORMATS = ("arrays", "folder", "npy", "npz", "sharma")


class Format(Protocol):
    """A module that reads and writes one format."""

    @property
    def HAS_CELLS(self) -> bool:  # noqa: N802
        """Whether it holds cubes; else it holds one vector a frame."""
        ...

    @property
    def KEEPS(self) -> tuple[str, ...]:  # noqa: N802
        """What it keeps beside cubes, labels and splits; see `Selection.notes`."""
        ...

    @property
    def OPTIONS(self) -> tuple[str, ...]:  # noqa: N802
        """The fields of `ImportOptions` that an import takes."""
        ...

    def check_export(self, selection: Selection) -> None:
        """Raise `CubereelError` for what the format cannot hold, before anything is written."""
        ...

    def export(self, selection: Selection, target: ExportFolder) -> None:
        """Write all files; those that are there already are kept."""
        ...

    def open_features(
        self, source: Path, options: ImportOptions
    ) -> AbstractContextManager[Features]:
        """Open a file or folder; raise `CubereelError` for what is unsafe or does not fit."""
        ...


def find_format(name: str) -> Format:
    """Return a format by name."""
    if name not in FORMATS:
        raise UsageError(f"no format named {name!r}; {nearest_name(name, list(FORMATS))}")
    return cast(Format, import_module(f"features_store.exchange.formats.{name}"))
