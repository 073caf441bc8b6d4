"""Bytes of a file, or of memory, taken in order; what asks for more than there is, is damage."""

from __future__ import annotations

import struct
from typing import Protocol

UNDEFINED = 2**64 - 1  # an address of what was never allocated
PAGE_BYTES, MAX_PAGES = 2**13, 2**10


class MalformedError(Exception):
    """Bytes are not what the format says; whoever knows the file names it."""


class UnknownError(Exception):
    """A structure that HDF5 has, and a store has not."""


class Source(Protocol):
    """Where bytes come from: `RegularFile`, or `Memory`."""

    num_bytes: int

    def read(self, offset: int, num_bytes: int) -> bytes:
        """Return so many bytes."""


class Memory:
    """Bytes that were read already."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data, self.num_bytes = memoryview(data), len(data)

    def read(self, offset: int, num_bytes: int) -> bytes:
        """Return a copy of so many bytes."""
        return bytes(self._data[offset : offset + num_bytes])


class Pages:
    """A source read a page at a time: structures are small, and many lie side by side.

    Args:
        most: bytes that may be read of it. No structure is read twice, unless several say that they
            are the same one.
    """

    def __init__(self, source: Source, *, most: int) -> None:
        self._source, self.num_bytes, self._left = source, source.num_bytes, most
        self._pages: dict[int, bytes] = {}

    def read(self, offset: int, num_bytes: int) -> bytes:
        """Return so many bytes; raise `MalformedError` where there are fewer."""
        if offset + num_bytes > self.num_bytes:
            raise MalformedError(f"something is said to lie at {offset}, behind the end")
        self._left -= num_bytes
        if self._left < 0:
            raise MalformedError("its structures are larger than those of any store")
        number, start = divmod(offset, PAGE_BYTES)
        if start + num_bytes > PAGE_BYTES:
            return self._source.read(offset, num_bytes)
        page = self._pages.get(number)
        if page is None:
            if len(self._pages) >= MAX_PAGES:
                self._pages.clear()
            first = number * PAGE_BYTES
            size = min(PAGE_BYTES, self.num_bytes - first)
            page = self._pages[number] = self._source.read(first, size)
        return page[start : start + num_bytes]


class Cursor:
    """Reads numbers, little-endian, from one end of some bytes to the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self.position = data, 0

    def take(self, num_bytes: int) -> bytes:
        """Return the next bytes."""
        start, self.position = self.position, self.position + num_bytes
        if self.position > len(self._data):
            raise MalformedError("a structure ends too early")
        return self._data[start : self.position]

    def numbers(self, form: str) -> tuple[int, ...]:
        """Return the next numbers, as `struct` writes their sizes."""
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def number(self, form: str) -> int:
        """Return the next number."""
        return self.numbers(form)[0]

    def text(self) -> bytes:
        """Return what lies before the next zero byte, and pass that too."""
        end = self._data.find(b"\0", self.position)
        if end < 0:
            raise MalformedError("a name has no end")
        return self.take(end - self.position + 1)[:-1]

    def align(self, start: int) -> None:
        """Go to the next multiple of 8 bytes from `start`."""
        self.position += (start - self.position) % 8


def expect(data: bytes, signature: bytes, what: str) -> None:
    """Raise `MalformedError` unless a structure begins with its signature."""
    if data[: len(signature)] != signature:
        raise MalformedError(f"there is no {what} where one is said to be")
