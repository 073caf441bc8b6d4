"""What becomes of a store that is copied; a command line reads it without HDF5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from features_store.errors import UsageError
from features_store.format.encodings import Compression, Dtype


@dataclass(frozen=True, kw_only=True)
class RepackOptions:
    """What becomes of a store that is copied. The text beside each field is the help of its flag.

    Attributes:
        compact: an eighth of the bytes of float16.
        dtype, compression: None is as before.
        layers, views: in any order; all when empty.
        shard_bytes: 8-bit shards are split but not joined.

    Raises:
        UsageError: two options say the same, or a size is none.
    """

    compact: Annotated[bool, "Short for --dtype 8bit --compression zstd."] = False
    dtype: Annotated[Dtype | None, "Of the cubes; as before if none."] = None
    compression: Annotated[Compression | None, "As before if none."] = None
    layers: Annotated[Sequence[str], "Layers to keep; repeat."] = ()
    views: Annotated[Sequence[str], "Views to keep; repeat."] = ()
    drop_diff_cubes: Annotated[bool, "Leave out cubes of difference images."] = False
    shard_bytes: Annotated[int, "Most bytes of a shard, before compression."] = 2 * 2**30

    def __post_init__(self) -> None:
        if self.compact and (self.dtype or self.compression):
            raise UsageError(
                "`compact` says dtype and compression; leave `dtype` and `compression`"
            )
        if self.shard_bytes < 1:
            raise UsageError(f"the size of a shard must be positive, got {self.shard_bytes}")
