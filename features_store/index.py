"""Where every video lies: derived from the sealed shards, kept in `index.h5`.

The index is a cache. It is extended or rebuilt when the shards on disk are not those it was made
from, and a store that cannot be written to is indexed in memory. It is read and its checksum
compared, but nothing is made of its rows, so that a store of a million videos opens in
milliseconds; what it says of a video is compared with the video's record when that is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import xxhash

from features_store.catalogue import Catalogue
from features_store.errors import DamageError, StoreError, UnsafeStoreError, UsageError
from features_store.format.hdf5.file import Hdf5File
from features_store.format.hdf5.parsing import Memory
from features_store.format.layout import LIBVER
from features_store.format.outputs import write_atomically
from features_store.format.records import check_ids
from features_store.format.regular_file import RegularFile
from features_store.format.safety import contiguous_place
from features_store.listing import check_identity
from features_store.metadata import StoreHeader
from features_store.shards.reader import ShardReader

FILE_NAME = "index.h5"
MAX_INDEX_BYTES = 2**29  # of some eight million videos; a larger one is neither written nor read
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

    def is_of(self, catalogue: Catalogue) -> bool:
        """Whether it says that it is of this state of the store."""
        return self.revision == catalogue.revision and self.shards == tuple(catalogue.shards)

    @property
    def video_ids(self) -> list[str]:
        """All ids, as texts.

        Raises:
            UnsafeStoreError: one is none, and could lead out of the store.
        """
        try:
            return check_ids(self.ids.tolist())
        except UsageError as err:
            raise UnsafeStoreError(
                f"{FILE_NAME} has a video id that could leave the store: {err}; run "
                "'cubereel store repair'"
            ) from err

    def equals(self, other: StoreIndex) -> bool:
        """Whether both say the same of the same videos."""
        names = ("ids", *_COLUMNS)
        return self.shards == other.shards and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in names
        )

    def of_shard(self, name: str) -> list[str]:
        """Return the ids that lie in a shard."""
        positions = np.flatnonzero(self.shard == self.shards.index(name))
        return [video_id.decode() for video_id in self.ids[positions].tolist()]


def load_index(store: Path, header: StoreHeader, catalogue: Catalogue) -> StoreIndex:
    """Return the index of a store, brought up to date (and written, where that is allowed)."""
    index = read_index(store)
    if index is None or not index.is_of(catalogue):
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
    try:
        check_ids(ids.tolist())
    except UsageError as err:
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
    options = {"driver": "core", "backing_store": False, "libver": LIBVER}
    with h5py.File(path.name, "w", **options) as file:
        file["revision"] = np.array([index.revision.encode()], "S")
        file["shards"] = np.array([name.encode() for name in index.shards], "S")
        for name in ("ids", *_COLUMNS):
            file[name] = getattr(index, name)
        file.flush()
        image = file.id.get_file_image()
    if len(image) + CHECKSUM_BYTES > MAX_INDEX_BYTES:
        path.unlink(missing_ok=True)
        return
    write_atomically(path, image + xxhash.xxh3_64_digest(image))


def read_index(store: Path) -> StoreIndex | None:
    """Read `index.h5`; None when it is missing, or not what `write_index` writes.

    What it says of a video holds once the record in its row has been looked at.
    """
    path = store / FILE_NAME
    try:
        with RegularFile(path) as file:
            if not CHECKSUM_BYTES < file.num_bytes <= MAX_INDEX_BYTES:
                return None
            content = np.empty(file.num_bytes, np.uint8)
            file.read_into(content.data, 0)
    except (FileNotFoundError, DamageError):
        return None
    image = content[:-CHECKSUM_BYTES]
    if xxhash.xxh3_64_digest(image.data) != content[-CHECKSUM_BYTES:].tobytes():
        return None
    try:
        return _parse(image, str(path))
    except StoreError:
        return None


def _parse(image: np.ndarray, path: str) -> StoreIndex | None:
    hdf5 = Hdf5File(Memory(image.data), path)
    revision = _column(image, hdf5, "revision", "S")
    names = _column(image, hdf5, "shards", "S")
    ids = _column(image, hdf5, "ids", "S")
    shard, rows, lengths, is_partial = (_column(image, hdf5, *each) for each in _COLUMNS.items())
    columns = (ids, shard, rows, lengths, is_partial)
    if len({len(column) for column in columns}) != 1 or len(revision) != 1:
        return None
    if len(ids) and (
        not 0 <= shard.min() <= shard.max() < len(names) or min(rows.min(), lengths.min() - 1) < 0
    ):
        return None
    shards = tuple(name.decode(errors="replace") for name in names)
    return StoreIndex(revision[0].decode(errors="replace"), shards, *columns)


def _column(image: np.ndarray, hdf5: Hdf5File, name: str, dtype: object) -> np.ndarray:
    """Return a one-dimensional dataset as a view; `DamageError` for any other."""
    dataset = hdf5.dataset(name)
    is_wanted = dataset.dtype.kind == "S" if dtype == "S" else dataset.dtype == dtype
    if len(dataset.shape) != 1 or not is_wanted:
        raise DamageError(f"{name} is not a plain column")
    offset = contiguous_place(dataset, Path(FILE_NAME), len(image))
    return image[offset : offset + dataset.num_bytes].view(dataset.dtype)
