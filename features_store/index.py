"""Where every video lies: derived from the sealed shards, kept in `index.h5`.

The index is a cache. It is extended or rebuilt when the shards on disk are not those it was made
from, and a store that cannot be written to is indexed in memory. It is mapped and its checksum
compared, but nothing is made of its rows, so that a store of a million videos opens in
milliseconds.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import xxhash

from features_store.catalogue import Catalogue
from features_store.errors import StoreError, UnsafeStoreError, UsageError
from features_store.format.disk import write_atomically
from features_store.format.records import check_id
from features_store.format.safety import check_own
from features_store.listing import check_identity
from features_store.metadata import StoreHeader
from features_store.shards.reader import ShardReader

FILE_NAME = "index.h5"
CHECKSUM_BYTES = 8  # behind the HDF5 data: xxh3-64 of all before, as `digest` orders its bytes
_COLUMNS = {"shard": np.int64, "row": np.int64, "length": np.int64, "is_partial": np.uint8}


@dataclass(frozen=True)
class StoreIndex:
    """Shards and videos of a store.

    Attributes:
        revision: of the store that it is of; empty while one is made.
        shards: file names below ``shards/``, sorted.
        ids: sorted video ids (bytes).
        shard: of each id, position in `shards`.
        row: of each id, its row in that shard's table ``videos``.
        length: of each id, its number of frames.
        is_partial: of each id, 1 where its video broke off.
    """

    revision: str
    shards: tuple[str, ...]
    ids: np.ndarray
    shard: np.ndarray
    row: np.ndarray
    length: np.ndarray
    is_partial: np.ndarray

    def find(self, video_id: str) -> int | None:
        """Return the position of an id, or None; binary search."""
        encoded = video_id.encode()
        if len(encoded) > self.ids.dtype.itemsize:
            return None  # numpy would widen all ids to compare
        position = int(np.searchsorted(self.ids, np.bytes_(encoded))) if len(self.ids) else 0
        found = position < len(self.ids) and self.ids[position] == encoded
        return position if found else None

    def equals(self, other: StoreIndex) -> bool:
        """Whether both say the same of the same videos."""
        names = ("ids", *_COLUMNS)
        return self.shards == other.shards and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in names
        )

    def of_shard(self, name: str) -> list[str]:
        """Return the ids that lie in a shard."""
        positions = np.flatnonzero(self.shard == self.shards.index(name))
        return [video_id.decode() for video_id in self.ids[positions]]


def load_index(store: Path, header: StoreHeader, catalogue: Catalogue) -> StoreIndex:
    """Return the index of a store, brought up to date (and written, where that is allowed)."""
    index = read_index(store)
    if index is None or index.revision != catalogue.revision:
        index = build_index(store, header, catalogue, known=index)
        with contextlib.suppress(OSError):  # a store that others share may be read-only
            write_index(store / FILE_NAME, index)
    return index


def build_index(
    store: Path, header: StoreHeader, catalogue: Catalogue, *, known: StoreIndex | None = None
) -> StoreIndex:
    """Read the table of videos of every shard; drop what another shard supersedes.

    Shards that `known` has are not opened again, as long as none of them is gone.
    """
    shards = tuple(catalogue.shards)
    if known is None or not set(known.shards) <= set(shards):
        known = _index([], shards=())
    places = {name: position for position, name in enumerate(shards)}
    moved = np.array([places[name] for name in known.shards], np.int64)
    there = moved[known.shard] if len(moved) else known.shard
    parts = [(known.ids, there, known.row, known.length, known.is_partial)]
    for name in shards:
        if name in known.shards:
            continue
        reader = open_shard(store, header, catalogue, name)
        ids, lengths, is_partial = _columns(reader)
        rows = np.arange(len(ids), dtype=np.int64)
        parts.append((ids, np.full(len(ids), places[name], np.int64), rows, lengths, is_partial))
    index = _without(_index(parts, shards=shards), catalogue.superseded)
    _require_unique(index)
    return replace(index, revision=catalogue.revision)


def open_shard(store: Path, header: StoreHeader, catalogue: Catalogue, name: str) -> ShardReader:
    """Open a shard that the catalogue lists; raise `DamageError` when it is another file."""
    path = store / "shards" / name
    check_identity(path, catalogue.shards[name])
    return ShardReader(path, header.arrays, spec=header.spec)


def _without(index: StoreIndex, superseded: Mapping[str, set[str]]) -> StoreIndex:
    """Drop videos by shard and id."""
    keep = np.ones(len(index.ids), bool)
    for name, ids in superseded.items():
        if name in index.shards:
            there = np.flatnonzero(index.shard == index.shards.index(name))
            dead = np.array([video_id.encode() for video_id in ids], "S")
            keep[there[np.isin(index.ids[there], dead)]] = False
    columns = (index.ids, index.shard, index.row, index.length, index.is_partial)
    return StoreIndex("", index.shards, *(column[keep] for column in columns))


def _index(parts: Sequence[tuple[np.ndarray, ...]], *, shards: tuple[str, ...]) -> StoreIndex:
    empty = (np.array([], "S1"), *(np.array([], dtype) for dtype in _COLUMNS.values()))
    ids, *columns = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
    order = np.argsort(ids, kind="stable")
    return StoreIndex("", shards, ids[order], *(column[order] for column in columns))


def _columns(reader: ShardReader) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = reader.table[: reader.num_videos]
    ids, lengths = table["id"].copy(), table["length"].copy()
    for video_id in ids.tolist():
        try:
            check_id(video_id.decode())
        except (UsageError, UnicodeDecodeError) as err:
            raise UnsafeStoreError(
                f"{reader.path.name} has a video id that could leave the store: {err}"
            ) from err
    return ids, lengths, (table["status"] == b"partial").astype(np.uint8)


def _require_unique(index: StoreIndex) -> None:
    twice = np.flatnonzero(index.ids[1:] == index.ids[:-1])
    if len(twice):
        one, other = (index.shards[int(index.shard[twice[0] + i])] for i in (0, 1))
        raise StoreError(
            f"video {index.ids[twice[0]].decode()!r} is in {one} and in {other}, "
            "and neither supersedes the other; 'cubereel store repair' keeps the newer one"
        )


def write_index(path: Path, index: StoreIndex) -> None:
    """Write `index.h5`, whole or not at all."""
    # Built in memory: where a disk is full, HDF5 crashes and a plain write only fails.
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        file["revision"] = np.array([index.revision.encode()], "S")
        file["shards"] = np.array([name.encode() for name in index.shards], "S")
        for name in ("ids", *_COLUMNS):
            file[name] = getattr(index, name)
        file.flush()
        image = file.id.get_file_image()
    write_atomically(path, image + xxhash.xxh3_64_digest(image))


def read_index(store: Path) -> StoreIndex | None:
    """Map `index.h5`; None when it is missing, or not what `write_index` writes."""
    path = store / FILE_NAME
    check_own(path)
    try:
        with path.open("rb") as raw:
            mapped = np.frombuffer(mmap.mmap(raw.fileno(), 0, prot=mmap.PROT_READ), np.uint8)
        # Checked before HDF5 looks at it, and read whole at some gigabytes a second.
        if (
            xxhash.xxh3_64_digest(mapped[:-CHECKSUM_BYTES].data)
            != mapped[-CHECKSUM_BYTES:].tobytes()
        ):
            return None
        with h5py.File(path, "r", locking=False) as file:
            revision = _mapped_column(mapped, file, "revision", "S")
            names = _mapped_column(mapped, file, "shards", "S")
            columns = [_mapped_column(mapped, file, "ids", "S")]
            columns += [
                _mapped_column(mapped, file, name, dtype) for name, dtype in _COLUMNS.items()
            ]
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError):
        return None
    if len({len(column) for column in columns}) != 1:
        return None
    shards = tuple(name.decode(errors="replace") for name in names)
    if len(columns[1]) and not 0 <= columns[1].min() <= columns[1].max() < len(shards):
        return None
    _, _, rows, lengths, _ = columns
    if len(rows) and min(rows.min(), lengths.min() - 1) < 0:
        return None
    if len(revision) != 1:
        return None
    return StoreIndex(revision[0].decode(errors="replace"), shards, *columns)


def _mapped_column(mapped: np.ndarray, file: h5py.File, name: str, dtype: object) -> np.ndarray:
    """Return a one-dimensional dataset as a view of the file; `ValueError` for any other."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"no dataset {name}")  # noqa: TRY004  # not a matter of types
    dataset = file[name]
    is_wanted = dataset.dtype.kind == "S" if dtype == "S" else dataset.dtype == dtype
    if dataset.external or dataset.is_virtual or dataset.ndim != 1 or not is_wanted:
        raise ValueError(f"{name} is not a plain column")
    if dataset.size == 0:
        return np.empty(0, dataset.dtype)
    offset, num_bytes = dataset.id.get_offset(), dataset.size * dataset.dtype.itemsize
    if offset is None or offset > len(mapped) - num_bytes:
        raise ValueError(f"{name} does not lie in the file")
    return mapped[offset : offset + num_bytes].view(dataset.dtype)
