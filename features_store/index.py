"""Where every video lies: derived from the sealed shards, kept in `index.h5`.

The index is a cache. It is rebuilt when it is missing or when the shards on disk are not those it
was made from, and a store that cannot be written to is indexed in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from features_store.errors import DamageError, StoreError
from features_store.header import StoreHeader
from features_store.shard_reader import open_shard

FILE_NAME = "index.h5"


@dataclass(frozen=True)
class StoreIndex:
    """Shards and videos of a store.

    Attributes:
        shards: file names below ``shards/`` and their sizes in bytes, sorted by name.
        ids: sorted video ids (bytes).
        shard: of each id, position in `shards`.
        row: of each id, its row in that shard's table ``videos``.
        length: of each id, its number of frames.
    """

    shards: tuple[tuple[str, int], ...]
    ids: np.ndarray
    shard: np.ndarray
    row: np.ndarray
    length: np.ndarray

    def find(self, video_id: str) -> int | None:
        """Return the position of an id, or None; binary search."""
        encoded = video_id.encode()
        position = int(np.searchsorted(self.ids, np.bytes_(encoded))) if len(self.ids) else 0
        found = position < len(self.ids) and self.ids[position] == encoded
        return position if found else None


def list_shards(store: Path) -> tuple[tuple[str, int], ...]:
    """Return name and size of every sealed shard, sorted by name."""
    folder = store / "shards"
    if not folder.is_dir():
        return ()
    with os.scandir(folder) as entries:
        return tuple(sorted((e.name, e.stat().st_size) for e in entries if e.name.endswith(".h5")))


def load_index(store: Path, header: StoreHeader) -> StoreIndex:
    """Return the index of a store, rebuilt (and written, where that is allowed) when stale."""
    shards = list_shards(store)
    index = _read(store / FILE_NAME, shards)
    if index is None:
        index = build_index(store, header, shards)
        with contextlib.suppress(OSError):  # a store that others share may be read-only
            write_index(store / FILE_NAME, index)
    return index


def build_index(
    store: Path, header: StoreHeader, shards: tuple[tuple[str, int], ...]
) -> StoreIndex:
    """Read the table of videos of every shard; drop what another shard supersedes."""
    superseded = _superseded(store, shards)
    found: dict[bytes, tuple[int, int, int]] = {}
    for position, (name, _) in enumerate(shards):
        with open_shard(store / "shards" / name, header.arrays, digest=header.spec.digest) as file:
            table = file["videos"][:]
        for row, (video_id, length) in enumerate(zip(table["id"], table["length"], strict=True)):
            if (name.removesuffix(".h5"), video_id.decode()) in superseded:
                continue
            if video_id in found:
                other = shards[found[video_id][0]][0]
                raise StoreError(
                    f"video {video_id.decode()!r} is in {name} and in {other}, "
                    "and neither supersedes the other; remove one of the two shards"
                )
            found[video_id] = (position, row, int(length))
    ids = sorted(found)
    places = np.array([found[i] for i in ids], np.int64).reshape(-1, 3)
    return StoreIndex(shards, np.array(ids, "S"), places[:, 0], places[:, 1], places[:, 2])


def read_sidecar(shard: Path) -> dict[str, object]:
    """Return a shard's sidecar: ``bytes``, ``sha256``, ``supersedes``."""
    path = shard.with_suffix(".json")
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as err:
        raise DamageError(f"the sidecar of {shard.name} cannot be read: {err}") from err
    if not isinstance(document, dict) or {"bytes", "sha256", "supersedes"} - set(document):
        raise DamageError(f"{path} lacks one of bytes, sha256, supersedes")
    return document


def _superseded(store: Path, shards: tuple[tuple[str, int], ...]) -> set[tuple[str, str]]:
    pairs: set[tuple[str, str]] = set()
    for name, _ in shards:
        supersedes = read_sidecar(store / "shards" / name)["supersedes"]
        if not isinstance(supersedes, dict):
            raise DamageError(f"'supersedes' in the sidecar of {name} is not a table")
        pairs |= {(unit, video_id) for unit, ids in supersedes.items() for video_id in ids}
    return pairs


def write_index(path: Path, index: StoreIndex) -> None:
    """Write `index.h5` beside itself and rename it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with h5py.File(temporary, "w") as file:
        file["shards"] = np.array([name.encode() for name, _ in index.shards], "S")
        file["shard_bytes"] = np.array([size for _, size in index.shards], np.int64)
        for name in ("ids", "shard", "row", "length"):
            file[name] = getattr(index, name)
    temporary.replace(path)


def _read(path: Path, shards: tuple[tuple[str, int], ...]) -> StoreIndex | None:
    """Return the index in a file, or None when it is missing, unreadable or of other shards."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            names = [name.decode() for name in file["shards"][:]]
            recorded = tuple(zip(names, file["shard_bytes"][:].tolist(), strict=True))
            if recorded != shards:
                return None
            return StoreIndex(
                shards, *(file[name][:] for name in ("ids", "shard", "row", "length"))
            )
    except (OSError, KeyError, ValueError):
        return None
