"""What a shared store may not do: reach outside itself, lie about sizes, run code, eat memory.

A store from elsewhere is untrusted input. Everything here is checked before memory is taken, and
each refusal says what was found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from features_store.errors import DamageError, UnsafeStoreError
from features_store.format.hdf5.datasets import Dataset
from features_store.format.hdf5.file import Hdf5File
from features_store.format.inputs import MAX_JSON_BYTES, parse_json
from features_store.format.layout import ArraySpec
from features_store.format.regular_file import RegularFile
from features_store.format.regular_file import check_own as check_own

MAX_CHUNK_BYTES = 2**28
MAX_COMPRESSION = 20_000  # cubes come to 8; what zstd makes of nothing but zeros is below
ZSTD = 32015  # registered number of the filter, as hdf5plugin has it


def read_json(path: Path) -> Any:
    """Return the document in a JSON file of bounded size; `ValueError` when it is none."""
    with RegularFile(path) as file:
        if file.num_bytes > MAX_JSON_BYTES:
            raise ValueError(f"it has {file.num_bytes} bytes, more than {MAX_JSON_BYTES}")
        return parse_json(file.content())


def check_filters(dataset: Dataset, path: Path, *, is_compressed: bool) -> None:
    """Raise `UnsafeStoreError` unless the filters are those that store.json announces."""
    if dataset.filters != ((ZSTD,) if is_compressed else ()):
        said = "zstd alone" if is_compressed else "none"
        raise UnsafeStoreError(
            f"{path}: {dataset.name!r} goes through HDF5 filters {list(dataset.filters)}, "
            f"store.json announces {said}; do not use this file"
        )


def check_size(
    dataset: Dataset, path: Path, file_bytes: int, *, is_compressed: bool = False
) -> None:
    """Raise `UnsafeStoreError` for a dataset that its file cannot hold, or hardly can."""
    declared = dataset.num_bytes
    if declared > file_bytes * (MAX_COMPRESSION if is_compressed else 1):
        raise UnsafeStoreError(
            f"{path}: {dataset.name!r} claims {declared} bytes, the file has {file_bytes}"
            + (f"; more than {MAX_COMPRESSION} to 1 is not believed" if is_compressed else "")
        )
    if dataset.chunk_bytes > MAX_CHUNK_BYTES:
        raise UnsafeStoreError(
            f"{path}: {dataset.name!r} has chunks {dataset.chunks}, too large to read"
        )


def contiguous_place(dataset: Dataset, path: Path, file_bytes: int) -> int:
    """Return where contiguous values lie; raise `DamageError` unless all lie in the file."""
    if dataset.chunks is not None or dataset.filters:
        raise DamageError(f"{path}: {dataset.name!r} is not contiguous")
    if dataset.offset is None and not dataset.num_bytes:
        return 0
    if dataset.offset is None or dataset.offset > file_bytes - dataset.num_bytes:
        raise DamageError(f"{path}: the values of {dataset.name!r} do not lie in the file")
    return dataset.offset


def check_rows(hdf5: Hdf5File, dataset: Dataset, path: Path, array: ArraySpec) -> None:
    """Raise `DamageError` unless the rows are those of `array`."""
    shape, dtype = dataset.shape, dataset.dtype
    if shape[1:] != array.stored_row_shape or dtype not in array.encoding.stored:
        raise DamageError(
            f"{path}: {array.path} holds rows {shape[1:]} of {dtype}, store.json says "
            f"{array.stored_row_shape} of {' or '.join(map(str, array.encoding.stored))}"
        )
    if dataset.chunks is None or dataset.chunks[1:] != shape[1:]:
        raise DamageError(f"{path}: {array.path} has chunks {dataset.chunks}, not whole rows")
    axes = hdf5.text("axes", of=dataset) if array.axes else None
    if axes != array.axes:
        raise DamageError(f"{path}: {array.path} has axes {axes!r}, expected {array.axes!r}")


def check_explained(
    explained: int, path: Path, file_bytes: int, *, num_datasets: int, num_chunks: int
) -> None:
    """Raise `UnsafeStoreError` for a file that is mostly nothing: reading it would have no end.

    A dataset has a header and a node of a tree of chunks, which is written whole; trees that are
    half full have some hundred bytes a chunk.
    """
    most = explained + 2**20 + 2**13 * num_datasets + 2**8 * num_chunks
    if file_bytes > most:
        raise UnsafeStoreError(
            f"{path} has {file_bytes} bytes, of which its datasets have {explained}; what else "
            "it holds is not a store's, do not use this file"
        )
