"""Datasets: shape, type, where the values lie; and the attributes of an object."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from features_store.format.hdf5.datatypes import parse_datatype
from features_store.format.hdf5.objects import EXTERNAL_FILES, NEWER, Header
from features_store.format.hdf5.parsing import UNDEFINED, Cursor, MalformedError, UnknownError

_SPACE, _TYPE, _LAYOUT, _FILTERS, _ATTRIBUTE = 0x01, 0x03, 0x08, 0x0B, 0x0C
_CONTIGUOUS, _CHUNKED, _VIRTUAL = 1, 2, 3
MAX_RANK, MAX_FILTERS = 8, 8
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Dataset:
    """What a file says of one dataset; nothing of it was read.

    Attributes:
        chunks: shape of a chunk; None where the values are contiguous.
        filters: numbers of the filters that chunks go through, in the order of writing.
        offset: of contiguous values in the file; of the tree of chunks where there are chunks;
            None where nothing was allocated.
    """

    name: str
    shape: Shape
    dtype: np.dtype
    chunks: Shape | None
    filters: tuple[int, ...]
    offset: int | None
    header: Header

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def num_bytes(self) -> int:
        """Of all values, before filters."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Of one chunk, before filters."""
        return prod(self.chunks or ()) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Of the values at one place along the first axis."""
        return prod(self.shape[1:]) * self.dtype.itemsize


def read_dataset(name: str, header: Header) -> Dataset:
    """Return what a header says of a dataset.

    Raises:
        UnknownError: its values lie in another file, or are of a kind that no store has.
    """
    if header.all(EXTERNAL_FILES):
        raise UnknownError("the data lie in another file")
    dtype, shape = parse_datatype(header.one(_TYPE)), _shape(header.one(_SPACE))
    chunks, offset = _layout(header.one(_LAYOUT), dtype, shape)
    pipelines = header.all(_FILTERS)
    filters = _filters(pipelines[0]) if pipelines else ()
    return Dataset(name, shape, dtype, chunks, filters, offset, header)


def read_attribute(header: Header, name: str) -> np.ndarray | None:
    """Return the values of an attribute; None where there is none of that name."""
    for message in header.all(_ATTRIBUTE):
        cursor = Cursor(message)
        version, flags, *sizes = cursor.numbers("BBHHH")
        if version not in (1, 2, 3) or (version > 1 and flags):
            raise UnknownError(f"has an attribute of version {version}")
        cursor.take(version == 3)  # the encoding of the name
        parts = []
        for size in sizes:
            start = cursor.position
            parts.append(cursor.take(size))
            if version == 1:
                cursor.align(start)
        if parts[0].rstrip(b"\0") != name.encode():
            continue
        try:
            dtype = parse_datatype(parts[1])
        except UnknownError:
            raise UnknownError("is not a text of fixed length, and no number") from None
        shape = _shape(parts[2])
        values = cursor.take(prod(shape) * dtype.itemsize)
        return np.frombuffer(values, dtype).reshape(shape)
    return None


def _shape(message: bytes) -> Shape:
    cursor = Cursor(message)
    version, rank, _ = cursor.numbers("BBB")
    if version not in (1, 2) or rank > MAX_RANK:
        raise MalformedError(f"a shape of version {version} has {rank} dimensions")
    kind = cursor.number("B") if version == 2 else 1
    if kind > 1:
        raise UnknownError("has no shape")
    cursor.take(5 if version == 1 else 0)
    return cursor.numbers(f"{rank}Q")


def _layout(message: bytes, dtype: np.dtype, shape: Shape) -> tuple[Shape | None, int | None]:
    cursor = Cursor(message)
    version, kind = cursor.numbers("BB")
    if version == 4 and kind == _VIRTUAL:
        raise UnknownError("the data lie in another file")
    if version != 3 or kind not in (_CONTIGUOUS, _CHUNKED):
        raise UnknownError(NEWER if version == 4 else "is kept in a way that no store has")
    if kind == _CONTIGUOUS:
        address, num_bytes = cursor.numbers("QQ")
        if address == UNDEFINED:
            return None, None
        if num_bytes != prod(shape) * dtype.itemsize:
            raise MalformedError(f"values of {num_bytes} bytes have another size than their shape")
        return None, address
    rank = cursor.number("B") - 1
    address, *chunks, item_bytes = cursor.numbers(f"Q{rank + 1 if rank >= 0 else 0}I")
    if rank != len(shape) or rank < 1 or item_bytes != dtype.itemsize or min(chunks) < 1:
        raise MalformedError(f"chunks {chunks} of {item_bytes} bytes do not fit their dataset")
    return tuple(chunks), None if address == UNDEFINED else address


def _filters(message: bytes) -> tuple[int, ...]:
    cursor = Cursor(message)
    version, number = cursor.numbers("BB")
    if version not in (1, 2) or number > MAX_FILTERS:
        raise MalformedError(f"a list of filters of version {version} has {number}")
    cursor.take(6 if version == 1 else 0)
    found = []
    for _ in range(number):
        filter_id = cursor.number("H")
        name_bytes = cursor.number("H") if version == 1 or filter_id >= 256 else 0
        _, num_values = cursor.numbers("HH")
        cursor.take(name_bytes + (-name_bytes % 8 if version == 1 else 0))
        cursor.take(4 * (num_values + (num_values % 2 if version == 1 else 0)))
        found.append(filter_id)
    return tuple(found)
