"""The formats that features are exchanged in. A new one is a file here and its line in `_CLASSES`.

A format is imported when it is used, so that a command line can name them all without HDF5.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from features_store.errors import UsageError, nearest_name

if TYPE_CHECKING:
    from features_store.exchange.export_folder import ExportFolder
    from features_store.exchange.features import Features
    from features_store.exchange.options import ImportOptions
    from features_store.exchange.selection import Selection

_CLASSES = {  # name -> module beside this one, and the class in it
    "arrays": "arrays.Arrays",
    "folder": "folder.Folder",
    "npy": "npy.Npy",
    "npz": "npy.Npz",
    "sharma": "sharma.Sharma",
}
FORMATS = tuple(_CLASSES)


class Format(ABC):
    """Reads and writes one format.

    Attributes:
        has_cells: whether it holds cubes; else it holds one vector a frame.
        keeps: what it keeps beside cubes, labels and splits; see `Selection.notes`.
        options: the fields of `ImportOptions` that an import takes.
    """

    has_cells: ClassVar[bool] = False
    keeps: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[tuple[str, ...]] = ("fps", "feat_stride", "feat_num_frames")

    @abstractmethod
    def check_export(self, selection: Selection) -> None:
        """Raise `CubereelError` for what the format cannot hold, before anything is written."""

    @abstractmethod
    def export(self, selection: Selection, target: ExportFolder) -> None:
        """Write all files; those that are there already are kept."""

    @abstractmethod
    def open_features(
        self, source: Path, options: ImportOptions
    ) -> AbstractContextManager[Features]:
        """Open a file or folder; raise `CubereelError` for what is unsafe or does not fit."""


def find_format(name: str) -> Format:
    """Return a format by name."""
    if name not in FORMATS:
        raise UsageError(f"no format named {name!r}; {nearest_name(name, list(FORMATS))}")
    module, _, kind = _CLASSES[name].partition(".")
    found = import_module(f"features_store.exchange.formats.{module}")
    return cast(Format, getattr(found, kind)())
