"""Names, sizes and chunks of a shard: pure arithmetic, no file is touched here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from features_store.errors import StoreError, UsageError
from features_store.format.encodings import Compression, Encoding, find_encoding
from features_store.format.plain import Plain

FORMAT_VERSION = 2
LIBVER = ("earliest", "v110")  # of HDF5: what `hdf5` reads, whatever libhdf5 comes to prefer
DIFF_GRID = 14
CHUNK_BYTES = 2**20  # chunks of 0.5 to 4 MB: one or a few reads per training window
SHARD_BYTES = 2 * 2**30
BLOCK_BYTES = 2**24  # rows are copied and checked in blocks of this size


_NAME = re.compile(r"[A-Za-z0-9_.]{1,150}(@(avg|max)[0-9]{1,4})?")
MAX_CUBE_VALUES = 2**26  # so that a row of them is no larger than a chunk may be
MAX_ARRAYS = 2**10  # of a shard


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
                "up to 150 letters, digits, '_' and '.' can, with '@avg7' or '@max7' at the end"
            )
        if self.grid_size < 1 or self.dim < 1:
            raise StoreError(f"layer {self.name!r} has an empty cube {self.cube_shape}")
        if self.grid_size**2 * self.dim > MAX_CUBE_VALUES:
            raise StoreError(
                f"layer {self.name!r} has cubes {self.cube_shape} of more than {MAX_CUBE_VALUES} "
                "values, the most that a store takes"
            )

    @property
    def cube_shape(self) -> tuple[int, int, int]:
        """(K, K, D)."""
        return (self.grid_size, self.grid_size, self.dim)


@dataclass(frozen=True)
class ArraySpec:
    """One per-frame array of a shard: its HDF5 path, and a row as it is read and as it is stored.

    Attributes:
        row_shape: of one frame, as it is read.
        encoding: how it is stored, before compression.
        is_compressed: stored as zstd chunks.
    """

    path: str
    row_shape: tuple[int, ...]
    encoding: Encoding
    is_compressed: bool = False

    @property
    def dtype(self) -> np.dtype:
        """Of what is read."""
        return self.encoding.read

    @property
    def row_bytes(self) -> int:
        """Bytes of one frame's row as it is read."""
        return int(np.prod(self.row_shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def stored_row_shape(self) -> tuple[int, ...]:
        """Shape of one frame's row in the file."""
        return self.encoding.stored_row_shape(self.row_shape)

    @property
    def stored_row_bytes(self) -> int:
        """Bytes of one frame's row in the file, before compression."""
        num_values = int(np.prod(self.stored_row_shape, dtype=np.int64))
        return num_values * self.encoding.stored[0].itemsize

    @property
    def axes(self) -> str | None:
        """Order of axes of cubes: n frames, k rows, k columns, d channels."""
        return self.encoding.axes if is_cubes(self.path) else None

    @property
    def scales_path(self) -> str:
        """The dataset of the float32 scales of cubes that have any."""
        return self.path.replace("cubes/", "scales/", 1)

    @property
    def scales_shape(self) -> tuple[int, ...] | None:
        """Of its scales in each shard; None where it has none."""
        return self.encoding.scales_shape(self.row_shape)

    @property
    def raw(self) -> ArraySpec:
        """This array as it is written during extraction: neither encoded nor compressed."""
        return ArraySpec(self.path, self.row_shape, Plain(self.encoding.written.name))

    @property
    def is_encoded(self) -> bool:
        """Whether what is read are other numbers than those in the file."""
        return not isinstance(self.encoding, Plain)


def other_version(version: object) -> str:
    """Say what to do with a store or a shard of another format version."""
    if type(version) is int and 0 < version < FORMAT_VERSION:
        return (
            f"is of format version {version}, this release reads {FORMAT_VERSION}: extract its "
            "videos again, or export it with the release that wrote it and import that"
        )
    return f"is of format version {version}, this release reads {FORMAT_VERSION}: upgrade cubereel"


def cube_path(view: str, layer: str) -> str:
    """Return the dataset of a layer's cubes.

    >>> cube_path("center", "inception5b")
    'cubes/center/inception5b'
    """
    return f"cubes/{view}/{layer}"


def diff_cube_path(view: str, layer: str) -> str:
    """Return the dataset of a layer's cubes of difference images."""
    return f"diff_{cube_path(view, layer)}"


def is_cubes(path: str) -> bool:
    """Whether a dataset holds cubes, of frames or of difference images."""
    return path.startswith(("cubes/", "diff_cubes/"))


def shard_arrays(
    layers: Sequence[LayerShape],
    *,
    views: Sequence[str],
    dtype: str,
    compression: str = "none",
    has_diffs: bool = True,
    has_diff_cubes: bool = False,
    has_windows: bool = False,
) -> list[ArraySpec]:
    """Return every per-frame array of a shard, in the order in which checksums are stored."""
    encoding, known = find_encoding(dtype), get_args(Compression)
    if compression not in known:
        raise UsageError(f"no compression named {compression!r}; there are: {', '.join(known)}")
    if len(layers) * len(views) > MAX_ARRAYS:
        raise StoreError(f"{len(layers)} layers in {len(views)} views are more than {MAX_ARRAYS}")
    for what, names in (("layer", [layer.name for layer in layers]), ("view", list(views))):
        if len(set(names)) < len(names):
            raise StoreError(f"a {what} is listed twice: {', '.join(names)[:200]}")
    is_compressed = compression == "zstd"
    arrays = []
    for view in views:
        paths = [cube_path, diff_cube_path] if has_diff_cubes else [cube_path]
        arrays += [
            ArraySpec(path(view, la.name), la.cube_shape, encoding, is_compressed)
            for path in paths
            for la in layers
        ]
        if has_diffs:
            shape, half = (DIFF_GRID, DIFF_GRID, 3), Plain("float16")
            arrays.append(ArraySpec(f"diffs/{view}", shape, half, is_compressed))
    arrays.append(ArraySpec("pts_seconds", (), Plain("float64")))
    arrays.append(ArraySpec("frame_index", (), Plain("int64")))
    if has_windows:
        arrays.append(ArraySpec("window", (2,), Plain("float64")))
    return arrays


def chunk_rows(row_bytes: int, num_rows: int, *, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Return t, the rows of a chunk (t, K, K, D): about `chunk_bytes`, at least one row.

    >>> chunk_rows(7 * 7 * 1024 * 2, 10_000)
    10
    """
    return max(1, min(num_rows, chunk_bytes // row_bytes))


def row_blocks(offset: int, length: int, row_bytes: int) -> list[tuple[int, int]]:
    """Cut a video's rows into blocks of at most `BLOCK_BYTES`.

    >>> row_blocks(10, 5, BLOCK_BYTES // 2)
    [(10, 12), (12, 14), (14, 15)]
    """
    step = max(1, BLOCK_BYTES // row_bytes)
    stop = offset + length
    return [(start, min(start + step, stop)) for start in range(offset, stop, step)]


def split_units(
    row_counts: Sequence[int],
    *,
    row_bytes: int,
    shard_bytes: int = SHARD_BYTES,
    most_videos: int | None = None,
) -> list[range]:
    """Cut a list of videos into consecutive units of at most `shard_bytes` where videos allow it.

    No unit has more than `most_videos` (`records.max_videos`).

    The ranges cover every position exactly once, in order; no unit is empty. There are as few as
    possible, and of those cuts it is the one whose largest unit is smallest.

    >>> split_units([3, 3, 3], row_bytes=SHARD_BYTES // 6)
    [range(0, 2), range(2, 3)]
    >>> split_units([1, 1, 1, 1], row_bytes=SHARD_BYTES // 3)
    [range(0, 2), range(2, 4)]
    """
    most, videos = shard_bytes // row_bytes, most_videos or max(len(row_counts), 1)
    units = list(_filled_units(row_counts, most, videos))
    low, high = max(row_counts, default=0), most
    while low < high:
        middle = (low + high) // 2
        smaller = list(_filled_units(row_counts, middle, videos))
        if len(smaller) > len(units):
            low = middle + 1
        else:
            units, high = smaller, middle
    return units


def _filled_units(row_counts: Sequence[int], most: int, videos: int) -> Iterator[range]:
    """Fill one unit after the other with at most so many rows and videos; a long one is alone."""
    start = 0
    rows_in_unit = 0
    for position, rows in enumerate(row_counts):
        is_full = rows_in_unit + rows > most or position - start == videos
        if position > start and is_full:
            yield range(start, position)
            start, rows_in_unit = position, 0
        rows_in_unit += rows
    if start < len(row_counts):
        yield range(start, len(row_counts))
