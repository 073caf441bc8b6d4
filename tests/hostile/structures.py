"""Shards whose HDF5 structures were changed on purpose: trees that come back, sizes that lie.

Places are found by their signatures, which does not depend on the code under test.
"""

import struct
from collections.abc import Callable
from pathlib import Path

Edit = Callable[[bytearray], None]


def _places(data: bytearray, signature: bytes) -> list[int]:
    found, at = [], data.find(signature)
    while at >= 0:
        found.append(at)
        at = data.find(signature, at + 1)
    return found


def _put(data: bytearray, at: int, form: str, *values: int) -> None:
    struct.pack_into(f"<{form}", data, at, *values)


def _trees(data: bytearray, kind: int) -> list[int]:
    return [at for at in _places(data, b"TREE") if data[at + 4] == kind]


def _free_list_that_loops(data: bytearray) -> None:
    """A heap of names whose first free block says that it is followed by itself."""
    for heap in _places(data, b"HEAP"):
        size, _, start = struct.unpack_from("<QQQ", data, heap + 8)
        free = size - 16
        _put(data, heap + 16, "Q", free)
        _put(data, start + free, "QQ", free, 16)


def _names_that_loop(data: bytearray) -> None:
    root = _trees(data, 0)[0]
    data[root + 5] = 1  # its child is a node, which is itself
    _put(data, root + 32, "Q", root)


def _chunks_that_loop(data: bytearray) -> None:
    for tree in _trees(data, 1):
        data[tree + 5] = 1
        for place in (48, 72):  # of the first child, behind a key of one axis or of four
            _put(data, tree + place, "Q", tree)


def _header_that_loops(data: bytearray) -> None:
    root = struct.unpack_from("<Q", data, 64)[0]
    _put(data, root + 2, "H", 2**16 - 1)  # so many messages, of which the first goes on
    _put(data, root + 16, "HHBBBBQQ", 0x10, 16, 0, 0, 0, 0, root + 16, 24)


def _header_that_is_huge(data: bytearray) -> None:
    root = struct.unpack_from("<Q", data, 64)[0]
    _put(data, root + 8, "I", 2**32 - 1)


def _heap_that_is_huge(data: bytearray) -> None:
    for heap in _places(data, b"HEAP"):
        _put(data, heap + 8, "Q", 2**62)


def _names_without_number(data: bytearray) -> None:
    for table in _places(data, b"SNOD"):
        _put(data, table + 6, "H", 2**16 - 1)


def _links_without_end(data: bytearray) -> None:
    """Every name leads to the root group."""
    root = struct.unpack_from("<Q", data, 64)[0]
    for table in _places(data, b"SNOD"):
        for entry in range(struct.unpack_from("<H", data, table + 6)[0]):
            _put(data, table + 8 + 40 * entry + 8, "Q", root)


def _trees_that_are_one(data: bytearray) -> None:
    """Every group has the names of the top, so that there are groups in groups without end."""
    root = struct.unpack_from("<Q", data, 64)[0]
    at = data.find(b"\x11\x00\x10\x00", root)  # the message of a symbol table, its 16 bytes
    top = data[at + 8 : at + 24]
    while at >= 0:
        data[at + 8 : at + 24] = top
        at = data.find(b"\x11\x00\x10\x00", at + 8)


def _end_behind_the_file(data: bytearray) -> None:
    _put(data, 40, "Q", 2**63)


def _newer_head(data: bytearray) -> None:
    data[8] = 3


EDITS: dict[str, Edit] = {
    "a heap whose free list loops": _free_list_that_loops,
    "a tree of names that is its own child": _names_that_loop,
    "a tree of chunks that is its own child": _chunks_that_loop,
    "a header that goes on with itself": _header_that_loops,
    "a header of 4 GB": _header_that_is_huge,
    "a heap of 2**62 bytes": _heap_that_is_huge,
    "more names than there are": _names_without_number,
    "names that all lead to the top": _links_without_end,
    "groups that all have the names of the top": _trees_that_are_one,
    "an end behind the file": _end_behind_the_file,
    "the head of newer HDF5": _newer_head,
}


def edit(path: Path, change: Edit) -> None:
    """Change the bytes of a file."""
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
