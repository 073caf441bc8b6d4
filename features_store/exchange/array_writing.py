"""Arrays to .npy and .npz files block by block; the bytes are those that numpy would write."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

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


def write_npy(path: Path, array: Blocks) -> None:
    """Write a .npy file."""
    with path.open("wb") as file:
        _write(file, array)


def write_npz(path: Path, arrays: Mapping[str, Blocks]) -> None:
    """Write a .npz file, uncompressed, so that others can map it."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", _NO_DATE)
            with archive.open(info, "w", force_zip64=True) as member:
                _write(member, array)


def _write(file: IO[bytes], array: Blocks) -> None:
    descr = np.lib.format.dtype_to_descr(array.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for block in array.blocks:
        file.write(np.ascontiguousarray(block, array.dtype).tobytes())
