"""Names, sizes and chunks of a shard: pure arithmetic, no file is touched here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from features_store.errors import StoreError, UsageError

FORMAT_VERSION = 1
DIFF_GRID = 14
CHUNK_BYTES = 2**20  # chunks of 0.5 to 4 MB: one or a few reads per training window
SHARD_BYTES = 2 * 2**30
DTYPES = ("float16", "float32")

_NAME = re.compile(r"[A-Za-z0-9_.]+(@(avg|max)[0-9]+)?")


@dataclass(frozen=True)
class LayerShape:
    """A layer of the backbone: K × K cells (`grid_size`) of D channels (`dim`)."""

    name: str
    grid_size: int
    dim: int

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in (".", ".."):
            raise UsageError(
                f"layer name {self.name!r} cannot stand in a store; "
                "letters, digits, '_' and '.' can, with '@avg7' or '@max7' at the end"
            )
        if self.grid_size < 1 or self.dim < 1:
            raise StoreError(f"layer {self.name!r} has an empty cube {self.cube_shape}")

    @property
    def cube_shape(self) -> tuple[int, int, int]:
        """(K, K, D)."""
        return (self.grid_size, self.grid_size, self.dim)


@dataclass(frozen=True)
class ArraySpec:
    """One per-frame array of a shard: its HDF5 path, the shape of a row, its dtype."""

    path: str
    row_shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one frame's row."""
        return int(np.prod(self.row_shape, dtype=np.int64)) * self.dtype.itemsize


def cube_path(view: str, layer: str) -> str:
    """Return the dataset of a layer's cubes.

    >>> cube_path("center", "inception5b")
    'cubes/center/inception5b'
    """
    return f"cubes/{view}/{layer}"


def shard_arrays(
    layers: Sequence[LayerShape], *, views: Sequence[str], dtype: str
) -> list[ArraySpec]:
    """Return every per-frame array of a shard, in the order in which checksums are stored."""
    if dtype not in DTYPES:
        raise UsageError(f"no dtype named {dtype!r}; there are: {', '.join(DTYPES)}")
    arrays = []
    for view in views:
        arrays += [
            ArraySpec(cube_path(view, la.name), la.cube_shape, np.dtype(dtype)) for la in layers
        ]
        arrays.append(ArraySpec(f"diffs/{view}", (DIFF_GRID, DIFF_GRID, 3), np.dtype(np.float16)))
    arrays.append(ArraySpec("pts_seconds", (), np.dtype(np.float64)))
    arrays.append(ArraySpec("frame_index", (), np.dtype(np.int64)))
    return arrays


def chunk_rows(row_bytes: int, num_rows: int) -> int:
    """Return t, the rows of a chunk (t, K, K, D): about `CHUNK_BYTES`, at least one row.

    >>> chunk_rows(7 * 7 * 1024 * 2, 10_000)
    10
    """
    return max(1, min(num_rows, CHUNK_BYTES // row_bytes))


def split_units(row_counts: Sequence[int], *, row_bytes: int) -> Iterator[range]:
    """Cut a list of videos into consecutive units of at most `SHARD_BYTES` where videos allow it.

    The ranges cover every position exactly once, in order; no unit is empty.

    >>> list(split_units([3, 3, 3], row_bytes=SHARD_BYTES // 6))
    [range(0, 2), range(2, 3)]
    """
    start = 0
    rows_in_unit = 0
    for position, rows in enumerate(row_counts):
        if position > start and (rows_in_unit + rows) * row_bytes > SHARD_BYTES:
            yield range(start, position)
            start, rows_in_unit = position, 0
        rows_in_unit += rows
    if start < len(row_counts):
        yield range(start, len(row_counts))
