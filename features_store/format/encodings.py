"""How cubes are stored, by name. A new dtype is its name in `Dtype`, and a class in a file beside.

Light, for command lines: a class is imported when it is used, since it needs numpy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, ClassVar, Literal, cast, get_args

from features_store.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

Dtype = Literal["float16", "float32", "8bit"]
Compression = Literal["none", "zstd"]
COMPACT: tuple[Dtype, Compression] = ("8bit", "zstd")  # an eighth of the bytes of float16
# Modules of this folder and their classes; names that are not here are numpy's, see `plain`.
CLASSES: dict[Dtype, str] = {"8bit": "eight_bit.EightBit"}


def find_encoding(name: str) -> Encoding:
    """Return the encoding of a dtype of the store; raise `UsageError` where there is none."""
    known = get_args(Dtype)
    if name not in known:
        raise UsageError(f"no dtype named {name!r}; there are: {', '.join(known)}")
    module, kind = CLASSES.get(cast(Dtype, name), "plain.Plain").split(".")
    encoding: Encoding = getattr(import_module(f"features_store.format.{module}"), kind)(name)
    return encoding


@dataclass(frozen=True)
class StoredAs:
    """How one array lies in one shard: dtype of its dataset; float32 scales where it has any."""

    dtype: np.dtype
    scales: np.ndarray | None = None


@dataclass(frozen=True)
class Encoding(ABC):
    """How rows (n, K, K, D) become what a shard stores, and become rows again.

    A partial holds rows as they are computed, in numbers of `written`. It is sealed in place where
    a shard stores just these; else every row is encoded at sealing.

    Attributes:
        name: as store.json says it.
        axes: of a dataset of cubes: n frames, k rows, k columns, d channels, as they are stored.
        advised: the dtype to take where a value is too large for this one.
    """

    name: str
    axes: ClassVar[str] = "nkkd"
    advised: ClassVar[Dtype] = "float32"

    @property
    @abstractmethod
    def read(self) -> np.dtype:
        """Dtype of rows as they are read, and exported: one of those that `plain` stores."""

    @property
    @abstractmethod
    def written(self) -> np.dtype:
        """Dtype of rows as they are computed."""

    @property
    @abstractmethod
    def stored(self) -> tuple[np.dtype, ...]:
        """Dtypes that a dataset may have, of one size; `choose` takes one of them."""

    @property
    def largest(self) -> float:
        """Largest magnitude that can be stored; infinite where scales follow the values."""
        return inf

    def stored_row_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one frame's row in the file."""
        return row_shape

    def scales_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the shape of the scales that an array has in each shard; None where it has none.

        Shards with scales are not joined: their rows are copied as they are.
        """
        return None

    def choose(self, rows: Iterable[np.ndarray], row_shape: tuple[int, ...]) -> StoredAs:
        """Return how an array of a new shard is stored, from all its rows in blocks."""
        return StoredAs(self.stored[0])

    @abstractmethod
    def encode(self, rows: np.ndarray, stored_as: StoredAs) -> np.ndarray:
        """Return what is stored, contiguous, for rows (n, K, K, D) of any float dtype."""

    @abstractmethod
    def decode(self, stored: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
        """Return rows (n, K, K, D); they may be a view of what is stored."""

    def holds(self, rows: np.ndarray, stored: np.ndarray) -> bool:
        """Whether rows came through `encode` without a value that is too large for it."""
        return self.largest == inf or bool((abs(rows) <= self.largest).all())
