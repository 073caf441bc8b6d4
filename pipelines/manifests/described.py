"""A manifest CSV, a folder that holds one, or a store: what is said of videos, what is stored."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from features_store.errors import ContractError, UsageError
from features_store.format.disk import file_sha256
from features_store.manifest import FILE_NAME, ManifestRow, is_csv, read_manifest
from features_store.metadata import FILE_NAME as STORE_FILE
from features_store.paths import MANIFEST
from features_store.store import Store
from pipelines.extraction.sources import Source, read_source

logger = logging.getLogger("cubereel")


def locate(path: Path) -> tuple[Path, Path | None]:
    """Return the manifest of a CSV, a folder or a store, and the store that it belongs to, if any.

    Raises:
        UsageError: it is none of them.
        ContractError: a store without a manifest.
    """
    MANIFEST.require(path)
    if path.name == FILE_NAME and (path.parent / STORE_FILE).is_file():
        path = path.parent  # its paths are relative to the store's root, not to the store
    manifest = path / FILE_NAME if path.is_dir() else path
    if (path / STORE_FILE).is_file():
        if not manifest.is_file():
            raise ContractError(
                f"{path} has no {FILE_NAME}; write one with the columns video_id, path, label"
            )
        return manifest, path
    if not is_csv(manifest) or not manifest.is_file():
        raise UsageError(
            f"no manifest in {str(path)!r}; give a CSV, a folder with a {FILE_NAME}, or a store"
        )
    return manifest, None


class Described:
    """The videos of a manifest as extraction and training see them.

    Attributes:
        rows: in the order of the manifest; paths and ids relative to the root, as in a store.
        num_frames: of each stored video; None where there is no store.
    """

    def __init__(self, path: Path) -> None:
        self.manifest, self.store = locate(path)
        self.num_frames: Mapping[str, int] | None = None
        self._source: Source | None = None
        if self.store is None:
            self._source = read_source(self.manifest)
            self.rows = list(self._source.rows)
            return
        self.rows = read_manifest(self.manifest)
        with Store(self.store) as store:
            self.num_frames = {i: store.num_frames_of(i) for i in store.ids}

    @property
    def videos(self) -> list[ManifestRow]:
        """The rows, of a store those of its videos, in the order in which `train` takes them."""
        stored = self.num_frames
        rows = (row for row in self.rows if stored is None or row.video_id in stored)
        return sorted(rows, key=lambda row: row.video_id.encode())

    @property
    def num_videos(self) -> int:
        """Videos of the store, else of the manifest."""
        return len(self.rows if self.num_frames is None else self.num_frames)

    @cached_property
    def absent(self) -> list[ManifestRow]:
        """Rows whose video is not in the store or, without one, not where the manifest says."""
        if self._source is None:
            stored = self.num_frames or {}
            return [row for row in self.rows if row.video_id not in stored]
        return [row for row in self.rows if not self._source.path(row).is_file()]

    def warn_of_absent(self) -> None:
        """Say how many rows are of videos that are not there."""
        if self.absent:
            logger.warning(
                "%d of %d videos of %s are not %s (first: %s)",
                len(self.absent), len(self.rows), self.manifest,
                "in the store" if self.store else "where it says", self.absent[0].video_id,
            )  # fmt: skip

    @cached_property
    def media(self) -> Mapping[str, str]:
        """SHA-256 of the file of every video that could be equal to another, by video id.

        A store knows it. Otherwise files of equal size are read; what is absent is not known.
        """
        if self.store is not None:
            with Store(self.store) as store:
                return store.media_hashes()
        assert self._source is not None
        return hash_equal_sizes({row.video_id: self._source.path(row) for row in self.rows})


def hash_equal_sizes(paths: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 of every file that another one has the size of, by video id."""
    by_size = defaultdict(list)
    for path in set(paths.values()):
        if path.is_file():
            by_size[path.stat().st_size].append(path)
    alike = [path for same in by_size.values() if len(same) > 1 for path in same]
    digests = {path: file_sha256(path) for path in alike}
    return {video_id: digests[path] for video_id, path in paths.items() if path in digests}
