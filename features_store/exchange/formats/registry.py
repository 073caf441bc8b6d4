"""The formats that features are exchanged in. A new one is a file here and a line in `FORMATS`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from features_store.errors import UsageError, nearest_name
from features_store.exchange.export_folder import ExportFolder
from features_store.exchange.features import Features, ImportOptions
from features_store.exchange.formats import arrays, folder, npy, npz, sharma
from features_store.exchange.selection import Selection


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


FORMATS: Mapping[str, Format] = {
    "arrays": arrays,
    "folder": folder,
    "npy": npy,
    "npz": npz,
    "sharma": sharma,
}


def find_format(name: str) -> Format:
    """Return a format by name."""
    if name not in FORMATS:
        raise UsageError(f"no format named {name!r}; {nearest_name(name, list(FORMATS))}")
    return FORMATS[name]
