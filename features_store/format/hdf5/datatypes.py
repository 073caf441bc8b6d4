"""Types of numbers: what HDF5 calls a datatype, as a dtype of numpy; none of variable size."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from features_store.format.hdf5.parsing import Cursor, MalformedError, UnknownError

MAX_MEMBERS, MAX_DEPTH, MAX_ITEM_BYTES = 64, 3, 2**20
_KINDS = ("integer", "float", "time", "text", "bits", "opaque", "compound", "reference", "enum",
          "text or list of variable size", "array")  # fmt: skip
_INTEGER, _FLOAT, _TEXT, _COMPOUND, _VARIABLE, _ARRAY = 0, 1, 3, 6, 9, 10
# IEEE 754: first bit, bits, where the exponent begins, its bits, the mantissa's, the bias.
_IEEE = {2: (0, 16, 10, 5, 0, 10, 15), 4: (0, 32, 23, 8, 0, 23, 127),
         8: (0, 64, 52, 11, 0, 52, 1023)}  # fmt: skip


@lru_cache(maxsize=256)  # shards of a store have the same ones
def parse_datatype(data: bytes) -> np.dtype:
    """Return the dtype that a datatype message describes.

    Raises:
        MalformedError: it describes none.
        UnknownError: it is of variable size, big-endian, or another that no store has.
    """
    return _parse(Cursor(data), 0)


def _parse(cursor: Cursor, depth: int) -> np.dtype:
    if depth > MAX_DEPTH:
        raise MalformedError("types are nested too deeply")
    head, *flags, num_bytes = cursor.numbers("BBBBI")
    kind, version = head & 15, head >> 4
    if not 0 < num_bytes <= MAX_ITEM_BYTES or not 1 <= version <= 3:
        raise MalformedError(f"a type of version {version} has {num_bytes} bytes")
    if kind == _INTEGER:
        return _integer(cursor, flags[0], num_bytes)
    if kind == _FLOAT:
        return _float(cursor, flags, num_bytes)
    if kind == _TEXT and flags[0] & 15 < 2:  # ended or padded by zeros
        return np.dtype(f"S{num_bytes}")
    if kind == _COMPOUND and version < 3:
        number = flags[0] | flags[1] << 8
        return _compound(cursor, version, number, num_bytes, depth)
    if kind == _ARRAY and version > 1:
        return _array(cursor, version, num_bytes, depth)
    raise UnknownError(
        "holds objects of variable size, where fixed-size numbers belong"
        if kind == _VARIABLE
        else f"holds values of type {_KINDS[kind] if kind < len(_KINDS) else kind}"
    )


def _integer(cursor: Cursor, flags: int, num_bytes: int) -> np.dtype:
    first_bit, num_bits = cursor.numbers("HH")
    if num_bytes not in (1, 2, 4, 8) or (first_bit, num_bits) != (0, 8 * num_bytes):
        raise UnknownError(f"holds integers of {num_bits} bits in {num_bytes} bytes")
    if flags & 1:
        raise UnknownError("holds big-endian numbers")
    return np.dtype(f"<{'i' if flags & 8 else 'u'}{num_bytes}")


def _float(cursor: Cursor, flags: list[int], num_bytes: int) -> np.dtype:
    if _IEEE.get(num_bytes) != cursor.numbers("HHBBBBI") or flags[1] != 8 * num_bytes - 1:
        raise UnknownError(f"holds floats of {num_bytes} bytes that are not those of IEEE 754")
    if flags[0] & 0x41:
        raise UnknownError("holds big-endian numbers")
    return np.dtype(f"<f{num_bytes}")


def _array(cursor: Cursor, version: int, num_bytes: int, depth: int) -> np.dtype:
    rank = cursor.number("B")
    if rank > 4:
        raise MalformedError(f"an array within a record has {rank} dimensions")
    if version == 2:
        cursor.take(3)
    shape = cursor.numbers(f"{rank}I")
    if version == 2:
        cursor.take(4 * rank)  # an order of dimensions, never used
    base = _parse(cursor, depth + 1)
    count = 1
    for length in shape:
        count *= length
    if count * base.itemsize != num_bytes:
        raise MalformedError("an array within a record has another size than its type says")
    return np.dtype((base, shape))


def _compound(cursor: Cursor, version: int, number: int, num_bytes: int, depth: int) -> np.dtype:
    if not 0 < number <= MAX_MEMBERS:
        raise MalformedError(f"a record has {number} fields")
    names, formats, offsets = [], [], []
    for _ in range(number):
        start = cursor.position
        names.append(cursor.text().decode())
        cursor.align(start)
        offsets.append(cursor.number("I"))
        if version == 1 and cursor.numbers("B3xI4x4I")[0]:
            raise UnknownError("holds records of a form that HDF5 gave up in 1998")
        formats.append(_parse(cursor, depth + 1))
    # numpy refuses names that come twice, and fields beyond the end.
    found: np.dtype = np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": num_bytes}
    )
    return found
