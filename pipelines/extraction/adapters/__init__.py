"""The forms in which data sets come: each module here reads one of them."""

from __future__ import annotations

from dataclasses import dataclass

from features_store.manifest import ManifestRow


@dataclass(frozen=True)
class Listed:
    """What a source says.

    Attributes:
        rows: of each video; relative paths begin at the source's folder.
        columns: of a manifest that it speaks of; of the others it says nothing.
        notes: of what it holds and was passed over.
    """

    rows: list[ManifestRow]
    columns: frozenset[str]
    notes: tuple[str, ...] = ()
