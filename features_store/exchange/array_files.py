"""Arrays in .npy and .npz files from strangers: checked before memory is taken, never unpickled.

Rows are mapped or streamed, so that memory does not grow with a file.
"""

from __future__ import annotations

import ast
import errno
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from features_store.errors import DamageError, StoreError, UnsafeStoreError
from features_store.format.inputs import open_regular

_NO_DATE = (1980, 1, 1, 0, 0, 0)  # so that the same features are the same file


@dataclass(frozen=True)
class Blocks:
    """An array to be written: its shape, its dtype, and its rows block by block."""

    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Iterable[np.ndarray]

    @classmethod
    def of(cls, array: np.ndarray) -> Blocks:
        """Return an array that is in memory as one block."""
        return cls(array.shape, array.dtype, [array])


def write_npy(file: IO[bytes], array: Blocks) -> None:
    """Write a .npy file, the bytes that numpy would write."""
    descr = np.lib.format.dtype_to_descr(array.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for block in array.blocks:
        file.write(np.ascontiguousarray(block, array.dtype).tobytes())


def write_npz(file: IO[bytes], arrays: Mapping[str, Blocks]) -> None:
    """Write a .npz file, uncompressed, so that others can map it."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", _NO_DATE)
            with archive.open(info, "w", force_zip64=True) as member:
                write_npy(member, array)


MAX_FILE_BYTES = 2**44
MAX_HEADER_BYTES = 2**14
MAX_COMPRESSION = 1000  # deflate makes more only of nothing but zeros
MAX_AXES = 32  # numpy's own limit was that
MAX_TABLE_BYTES = 2**25  # of an array that is loaded whole: labels, names
_MAGIC = b"\x93NUMPY"
_PLAIN = re.compile(r"[<>=|]?(f[248]|[iu][1248]|[SU][0-9]{1,6})")


@dataclass(frozen=True)
class ArrayHeader:
    """What an array in npy format says of itself; `num_bytes` is the size of the header."""

    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool
    num_bytes: int


def parse_header(head: bytes, total_bytes: int, where: str) -> ArrayHeader:
    """Return the header at the beginning of an array of `total_bytes`.

    Raises:
        DamageError: it is none.
        UnsafeStoreError: the array is a pickle, or claims another size than it has.
        StoreError: it holds neither numbers nor text.
    """
    try:
        fields, num_bytes = _fields(head)
        shape, is_fortran = fields["shape"], fields["fortran_order"]
        descr = fields["descr"] if isinstance(fields["descr"], str) else repr(fields["descr"])
        if not isinstance(shape, tuple) or len(shape) > MAX_AXES:
            raise TypeError(f"its shape is {shape!r}")  # noqa: TRY301
        if not all(type(n) is int and 0 <= n < 2**63 for n in shape):
            raise ValueError(f"its shape is {shape!r}")  # noqa: TRY301
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as err:
        raise DamageError(
            f"{where} is not an array in npy format ({err}); write it with numpy.save"
        ) from None
    if "O" in descr:
        raise UnsafeStoreError(
            f"{where} holds Python objects, that is a pickle, which can run code when it is "
            "loaded; convert it to numbers and save it with allow_pickle=False"
        )
    if not _PLAIN.fullmatch(descr):
        raise StoreError(f"{where} has dtype {descr!r}; expected plain numbers or text")
    dtype = np.dtype(descr)
    declared = num_bytes + math.prod(shape) * dtype.itemsize
    if declared != total_bytes:
        raise UnsafeStoreError(
            f"{where} claims shape {shape} of {dtype}, that is {declared} bytes, and has "
            f"{total_bytes}; it was cut off or is not one array, save it again"
        )
    return ArrayHeader(shape, dtype, bool(is_fortran), num_bytes)


def _fields(head: bytes) -> tuple[dict[str, Any], int]:
    """Return the dictionary of a header (numpy's NEP 1) and where the numbers begin."""
    if head[:6] != _MAGIC:
        raise ValueError(f"it begins with {head[:6]!r}")
    size_bytes = 2 if head[6:7] == b"\x01" else 4
    start = 8 + size_bytes
    stop = start + int.from_bytes(head[8:start], "little")
    if stop > len(head):
        raise ValueError(f"its header ends behind byte {len(head)}")
    fields = ast.literal_eval(head[start:stop].decode("utf-8"))
    return dict(fields), stop


class NpyArray:
    """A .npy file; rows are read through a memory map."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._path = path
        try:
            with open_regular(path, most_bytes=MAX_FILE_BYTES) as file:
                head, num_bytes = file.read(MAX_HEADER_BYTES), file.seek(0, os.SEEK_END)
        except ValueError as err:
            raise UnsafeStoreError(f"{path} cannot be read: {err}") from err
        self.header = parse_header(head, num_bytes, self.where)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop` of the first axis."""
        header = self.header
        mapped = np.memmap(
            self._path,
            header.dtype,
            "r",
            header.num_bytes,
            header.shape,
            "F" if header.is_fortran else "C",
        )
        return np.asarray(mapped[start:stop])


class NpzFile:
    """A .npz file: a zip archive of arrays; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _reading(str(path)):
            self._file = open_regular(path, most_bytes=MAX_FILE_BYTES)
            try:
                self._archive = zipfile.ZipFile(self._file)
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()
        self._file.close()

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        names = self._archive.namelist()
        return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]

    def array(self, name: str) -> NpzArray:
        """Open an array; raise `StoreError` when there is none of that name."""
        if name not in self.names:
            raise StoreError(f"{self.path} has no array {name!r}; it holds: {self.names}")
        info = self._archive.getinfo(f"{name}.npy")
        where = f"{self.path}: {name!r}"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise StoreError(f"{where} is compressed in a way that numpy does not write")
        if info.file_size > MAX_COMPRESSION * max(info.compress_size, 1):
            raise UnsafeStoreError(
                f"{where} claims to unpack from {info.compress_size} to {info.file_size} bytes; "
                f"more than {MAX_COMPRESSION} to 1 is not believed"
            )
        with _reading(where):
            return NpzArray(self._archive.open(info), info.file_size, where)


class NpzArray:
    """An array in a .npz file; reading rows in their order unpacks them once."""

    def __init__(self, member: IO[bytes], num_bytes: int, where: str) -> None:
        self.where = where
        self._member = member
        self.header = parse_header(member.read(MAX_HEADER_BYTES), num_bytes, where)
        if self.header.is_fortran and len(self.header.shape) > 1:
            raise StoreError(
                f"{where} is stored column by column and cannot be read by rows; "
                "save it again through numpy.ascontiguousarray"
            )

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop` of the first axis."""
        row_shape = self.header.shape[1:]
        size = math.prod(row_shape)
        return self.values(start * size, stop * size).reshape(-1, *row_shape)

    def values(self, start: int, stop: int) -> np.ndarray:
        """Return numbers in the order in which they are stored."""
        size = self.header.dtype.itemsize
        with _reading(self.where):
            self._member.seek(self.header.num_bytes + start * size)
            content = self._member.read((stop - start) * size)
        if len(content) != (stop - start) * size:
            raise DamageError(f"{self.where} ends before its last row; save it again")
        return np.frombuffer(content, self.header.dtype)

    def table(self) -> np.ndarray:
        """Return a whole array of one axis; raise `UnsafeStoreError` for a very large one."""
        shape, dtype = self.header.shape, self.header.dtype
        if len(shape) != 1 or shape[0] * dtype.itemsize > MAX_TABLE_BYTES:
            raise UnsafeStoreError(
                f"{self.where} has shape {shape} of {dtype}; expected one value a video and at "
                f"most {MAX_TABLE_BYTES} bytes"
            )
        return self.rows(0, shape[0])


@contextmanager
def _reading(where: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as err:
        if isinstance(err, OSError) and err.errno != errno.EINVAL:
            raise  # the machine; EINVAL is an offset that cannot be
        raise DamageError(f"{where} cannot be read as a .npz file: {err}") from err
