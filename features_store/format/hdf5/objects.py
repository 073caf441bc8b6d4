"""Object headers (version 1), and the groups that name them: symbol tables."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from features_store.format.hdf5.parsing import (
    MalformedError,
    Pages,
    UnknownError,
    expect,
)

MAX_HEADER_BYTES, MAX_HEADER_BLOCKS = 2**20, 64
MAX_LINKS, MAX_HEAP_BYTES = 2**16, 2**22
LINK, EXTERNAL_FILES, CONTINUATION, SYMBOL_TABLE = 0x06, 0x07, 0x10, 0x11
_LINK_INFO = 0x02
_HEADER, _MESSAGE = struct.Struct("<BxHII4x"), struct.Struct("<HHB3x")
_NODE, _SYMBOLS = struct.Struct("<4sBBHQQ"), struct.Struct("<4sBxH")
_HEAP, _ENTRY = struct.Struct("<4sB3xQQQ"), struct.Struct("<QQI4x16x")
_FREE, _NO_MORE_FREE = struct.Struct("<QQ"), (1, 2**64 - 1)
_IS_SOFT_LINK = 2
NEWER = "is kept as only newer HDF5 does it; write it with `libver` earliest (FORMAT.md)"


@dataclass(frozen=True)
class Header:
    """What stands in an object header: (kind, content) of its messages."""

    messages: tuple[tuple[int, bytes], ...]

    def all(self, kind: int) -> list[bytes]:
        """Return the messages of a kind."""
        return [data for each, data in self.messages if each == kind]

    def one(self, kind: int) -> bytes:
        """Return the message of a kind; raise `MalformedError` unless there is one."""
        found = self.all(kind)
        if len(found) != 1:
            raise MalformedError(f"a header has {len(found)} messages of kind {kind}")
        return found[0]

    @property
    def is_group(self) -> bool:
        """Whether it is that of a group."""
        return any(kind in (SYMBOL_TABLE, LINK, _LINK_INFO) for kind, _ in self.messages)


def read_header(pages: Pages, address: int) -> Header:
    """Return the header at an address."""
    head = pages.read(address, _HEADER.size)
    if head[:4] == b"OHDR":
        raise UnknownError(NEWER)
    version, number, _, size = _HEADER.unpack(head)
    if version != 1:
        raise MalformedError(f"a header has version {version}")
    messages: list[tuple[int, bytes]] = []
    blocks, num_bytes = [(address + _HEADER.size, size)], 0
    for start, size in blocks:  # grows meanwhile
        num_bytes += size
        if num_bytes > MAX_HEADER_BYTES or len(blocks) > MAX_HEADER_BLOCKS:
            raise MalformedError("a header is too large")
        for kind, content in _messages(pages.read(start, size)):
            if len(messages) == number:
                break
            messages.append((kind, content))
            if kind == CONTINUATION:
                blocks.append(struct.unpack_from("<QQ", content))
    return Header(tuple(messages))


def _messages(block: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _MESSAGE.size <= len(block):
        kind, size, flags = _MESSAGE.unpack_from(block, position)
        position += _MESSAGE.size
        if position + size > len(block):
            raise MalformedError("a message of a header ends too late")
        if flags & 2:
            raise UnknownError("shares its description with another object")
        yield kind, block[position : position + size]
        position += size


def read_links(pages: Pages, header: Header) -> dict[str, int]:
    """Return name -> address of the objects in a group.

    Raises:
        UnknownError: one of the links is not hard.
    """
    if links := header.all(LINK):
        raise UnknownError(_kind_of_link(links))
    if header.all(_LINK_INFO):
        raise UnknownError(NEWER)
    tree, heap = struct.unpack_from("<QQ", header.one(SYMBOL_TABLE))
    names = _heap(pages, heap)
    found: dict[str, int] = {}
    for node in _leaves(pages, tree):
        head = pages.read(node, _SYMBOLS.size)
        expect(head, b"SNOD", "table of names")
        count = _SYMBOLS.unpack(head)[2]
        if len(found) + count > MAX_LINKS:
            raise MalformedError(f"a group has more than {MAX_LINKS} names")
        entries = pages.read(node + _SYMBOLS.size, count * _ENTRY.size)
        for at, address, cached in _ENTRY.iter_unpack(entries):
            end = names.find(b"\0", at)
            if end <= at:
                raise MalformedError("a name of a group has no end")
            name = names[at:end].decode()
            if cached == _IS_SOFT_LINK:
                raise UnknownError(f"{name!r} is a SoftLink")
            found[name] = address
    return found


def _kind_of_link(links: list[bytes]) -> str:
    kinds = {0: "HardLink", 1: "SoftLink", 64: "ExternalLink"}
    said = {kinds.get(link[2] if len(link) > 2 and link[1] & 8 else 0, "link") for link in links}
    return (
        "a name in it is a " + " or ".join(sorted(said - {"HardLink"}))
        if said - {"HardLink"}
        else NEWER
    )


def _heap(pages: Pages, address: int) -> bytes:
    head = pages.read(address, _HEAP.size)
    expect(head, b"HEAP", "heap of names")
    _, _, num_bytes, free, start = _HEAP.unpack(head)
    if num_bytes > MAX_HEAP_BYTES:
        raise MalformedError(f"the names of a group have {num_bytes} bytes")
    names = pages.read(start, num_bytes)
    for _ in range(num_bytes // _FREE.size + 1):  # which libhdf5 follows without end
        if free in _NO_MORE_FREE:
            return names
        free, _ = _FREE.unpack_from(names, free)
    raise MalformedError("the free blocks of a heap of names come back to themselves")


def _leaves(pages: Pages, root: int) -> Iterator[int]:
    """Yield the addresses below a tree of names; each node of it is read once."""
    waiting, seen = [(root, 256)], {root}
    while waiting:
        address, above = waiting.pop()
        head = pages.read(address, _NODE.size)
        expect(head, b"TREE", "tree of names")
        _, kind, level, used, _, _ = _NODE.unpack(head)
        if kind != 0 or level >= above:
            raise MalformedError("a tree of names has no order")
        words = pages.read(address + _NODE.size, 16 * used + 8)
        for child in struct.unpack(f"<{2 * used + 1}Q", words)[1::2]:
            if child in seen or len(seen) > MAX_LINKS:
                raise MalformedError("a tree of names comes back to itself")
            seen.add(child)
            if level:
                waiting.append((child, level))
            else:
                yield child
