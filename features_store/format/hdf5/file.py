"""A file of HDF5 as a store has it: its groups walked once, datasets found by their paths."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from features_store.errors import DamageError, UnsafeStoreError
from features_store.format.hdf5.chunk_tree import read_chunks
from features_store.format.hdf5.datasets import Dataset, read_attribute, read_dataset
from features_store.format.hdf5.objects import NEWER, Header, read_header, read_links
from features_store.format.hdf5.parsing import MalformedError, Pages, Source, UnknownError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Of all headers and names of a file, and of all trees of chunks: read at some MB and GB a second.
MAX_NAMES, MAX_STRUCTURE_BYTES, MAX_TREE_BYTES = 2**16, 2**24, 2**29
_SUPERBLOCK = struct.Struct("<8s8B")  # then two numbers of trees, and addresses
_ADDRESSES = struct.Struct("<4Q8xQ")


class Hdf5File:
    """Groups, datasets and attributes of a file; of what it refuses, it says what it is.

    Args:
        name: of the file, for errors.

    Attributes:
        datasets: path -> header of everything that is no group.

    Raises:
        DamageError: it is no HDF5, or what it says of itself cannot be.
        UnsafeStoreError: it is HDF5 of another kind than a store has, or reaches outside itself.
    """

    def __init__(self, source: Source, name: str) -> None:
        self._pages, self._name = Pages(source, most=MAX_STRUCTURE_BYTES), name
        most = MAX_STRUCTURE_BYTES + min(2 * source.num_bytes, MAX_TREE_BYTES)
        self._tree_pages = Pages(source, most=most)
        self.datasets: dict[str, Header] = {}
        with self._explained("", ""):
            root = _root_of(self._pages)
            self._root = read_header(self._pages, root)
        self._walk(root)

    def attribute(self, name: str, *, of: Dataset | None = None) -> np.ndarray | None:
        """Return an attribute of the file, or of a dataset; None where there is none."""
        header, holder = (self._root, "/") if of is None else (of.header, of.name)
        where = f"attribute {name!r} of {holder} "
        with self._explained(where, where):
            return read_attribute(header, name)

    def text(self, name: str, *, of: Dataset | None = None) -> str | None:
        """Return an attribute that is a text; None where there is none.

        Raises:
            UnsafeStoreError: it is no text of fixed length.
        """
        value = self.attribute(name, of=of)
        if value is None:
            return None
        where = f"attribute {name!r} "
        with self._explained(where, where):
            if value.dtype.kind != "S" or value.size != 1:
                raise UnknownError("is not a text of fixed length")
            return bytes(value.item()).decode()

    def dataset(self, name: str) -> Dataset:
        """Return a dataset by its path."""
        header = self.datasets.get(name)
        if header is None:
            raise DamageError(f"{self._name} has no dataset {name!r}")
        with self._explained(f"{name!r} ", f"{name!r}: "):
            return read_dataset(name, header)

    def chunks(self, dataset: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return offset, stored size and filter mask of every chunk of a dataset, in order."""
        with self._explained("", f"{dataset.name}: "):
            return read_chunks(self._tree_pages, dataset)

    def _walk(self, root: int) -> None:
        waiting, seen, num_names = [("", self._root)], {root: self._root}, 0
        while waiting:
            path, header = waiting.pop()
            where = f"group /{path}: "
            with self._explained(where, where):
                links = read_links(self._pages, header)
                num_names += len(links)
                if num_names > MAX_NAMES:
                    raise MalformedError(f"it has more than {MAX_NAMES} names")
            for name, address in links.items():
                below = f"{path}/{name}".removeprefix("/")
                if address not in seen:
                    with self._explained(f"{below!r} ", f"{below!r}: "):
                        seen[address] = child = read_header(self._pages, address)
                    if child.is_group:  # once: groups may be linked in circles
                        waiting.append((below, child))
                if not seen[address].is_group:
                    self.datasets[below] = seen[address]

    @contextmanager
    def _explained(self, unknown: str, malformed: str) -> Iterator[None]:
        try:
            yield
        except UnknownError as err:
            raise UnsafeStoreError(
                f"{self._name}: {unknown}{err}; a store may not point outside its own data, nor "
                "hold what FORMAT.md does not allow: do not use this file"
            ) from None
        except (MalformedError, ValueError, OverflowError, struct.error) as err:
            raise DamageError(
                f"{self._name} cannot be read as HDF5: {malformed}{err}; copy it again, or run "
                "'cubereel store repair'"
            ) from err


def _root_of(pages: Pages) -> int:
    """Return the address of the root group."""
    if pages.num_bytes < 96:
        raise MalformedError("it is shorter than its head")
    head = pages.read(0, 96)
    if head[:8] != SIGNATURE:
        place = _place_of_signature(pages)
        if place is None:
            raise MalformedError("it does not begin as HDF5 does")
        raise UnknownError(f"begins with {place} bytes that are not HDF5")
    _, version, free, table, _, shared, *sizes, _ = _SUPERBLOCK.unpack_from(head)
    if version:
        raise UnknownError(NEWER)
    if free or table or shared or sizes != [8, 8]:
        raise MalformedError("its head has versions or sizes that there are not")
    base, _, end, _, root = _ADDRESSES.unpack_from(head, 24)
    if base:
        raise UnknownError(f"begins with {base} bytes that are not HDF5")
    if end > pages.num_bytes:
        raise MalformedError(f"it was cut off: it has {pages.num_bytes} of {end} bytes")
    return int(root)


def _place_of_signature(pages: Pages) -> int | None:
    place = 512
    while place + 8 <= pages.num_bytes:
        if pages.read(place, 8) == SIGNATURE:
            return place
        place *= 2
    return None
