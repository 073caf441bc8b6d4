"""How many bytes shards will have, before there is one: arithmetic on rows, no file is touched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod

from features_store.format.layout import CHUNK_BYTES, ArraySpec, chunk_rows
from features_store.format.records import record_dtype

MAX_UNUSED_SHARE = 1 / 16  # of a shard's rows; a shard that wastes more is copied when sealed


@dataclass(frozen=True)
class UnitRows:
    """One unit: the rows it reserves, those its videos fill, and how many videos that are."""

    reserved: int
    filled: int
    videos: int


@dataclass
class ShardBytes:
    """Bytes of shards, uncompressed.

    Attributes:
        arrays: path -> bytes of its filled rows.
        rest: the tables of videos, scales of cubes, rows that were reserved and stay unused.
    """

    arrays: dict[str, int] = field(default_factory=dict)
    rest: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.arrays.values()) + self.rest


def chunk_bytes_of(array: ArraySpec) -> int:
    """Return about how many bytes a chunk of an array has."""
    # A window unpacks whole chunks, so compressed ones are smaller.
    return CHUNK_BYTES // 2 if array.is_compressed else CHUNK_BYTES


def is_sealed_in_place(arrays: Sequence[ArraySpec], *, unused_share: float) -> bool:
    """Whether a shard is sealed as it was written; else what it needs is copied."""
    is_raw = all(array == array.raw for array in arrays)
    return is_raw and unused_share <= MAX_UNUSED_SHARE


def shard_bytes(
    arrays: Sequence[ArraySpec],
    units: Iterable[UnitRows],
    *,
    id_bytes: int,
    draws_shape: tuple[int, int] | None = None,
) -> ShardBytes:
    """Return what sealed shards will hold.

    Args:
        id_bytes: of the longest video id.
        draws_shape: see `Sampling.draws_shape`.
    """
    result = ShardBytes({array.path: 0 for array in arrays})
    table = record_dtype(id_bytes=id_bytes, num_arrays=len(arrays), draws_shape=draws_shape)
    for unit in units:
        if not unit.filled:
            continue  # no shard is left of a unit without videos
        in_place = is_sealed_in_place(arrays, unused_share=1 - unit.filled / unit.reserved)
        rows = max(unit.reserved, unit.filled) if in_place else unit.filled
        result.rest += unit.videos * table.itemsize
        for array in arrays:
            row = array.stored_row_bytes
            chunk = chunk_rows(row, rows, chunk_bytes=chunk_bytes_of(array))
            result.arrays[array.path] += unit.filled * row
            result.rest += (-(-rows // chunk) * chunk - unit.filled) * row
            result.rest += 0 if array.scales_shape is None else 4 * prod(array.scales_shape)
    return result
