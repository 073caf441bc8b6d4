"""What a shared store may not do: reach outside itself, lie about sizes, run code, eat memory.

A store from elsewhere is untrusted input. Everything here is checked before memory is taken or
mapped, and each refusal says what was found.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from features_store.errors import DamageError, UnsafeStoreError
from features_store.format.layout import ArraySpec

MAX_JSON_BYTES = 2**26
MAX_CHUNK_BYTES = 2**28
MAX_COMPRESSION = 20_000  # cubes come to 8; what zstd makes of nothing but zeros is below
ZSTD = 32015  # registered number of the filter, as hdf5plugin has it


def read_json(path: Path) -> Any:
    """Return the document in a JSON file of bounded size; `ValueError` when it is none."""
    check_own(path)
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"it has {path.stat().st_size} bytes, more than {MAX_JSON_BYTES}")
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_own(path: Path) -> None:
    """Raise `UnsafeStoreError` unless a path is nothing yet, a regular file or a folder: no link.

    Reading a device or a pipe would not end, and a link can lead anywhere.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISLNK(mode):
        raise UnsafeStoreError(
            f"{path} is a link to {path.readlink()}, maybe outside the store; a store holds no "
            "links: put what it points to in its place, or do not use it"
        )
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UnsafeStoreError(f"{path} is neither a file nor a folder; do not use this store")


def check_links(group: h5py.Group, path: Path, seen: set[int] | None = None) -> None:
    """Raise `UnsafeStoreError` for a soft or external link anywhere below `group`."""
    seen = set() if seen is None else seen
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        return  # groups may be linked in circles
    seen.add(address)
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise UnsafeStoreError(
                f"{path}: {group.name}/{name} is a {type(link).__name__}; "
                "a store may not point outside its own data, do not use this file"
            )
        if group.get(name, getclass=True) is h5py.Group:
            check_links(group[name], path, seen)


def checked_dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    """Return a dataset whose data lie in this file, of plain numbers, in chunks of bounded size."""
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise DamageError(f"{path} has no dataset {name!r}")
    if dataset.external or dataset.is_virtual:
        raise UnsafeStoreError(f"{path}: the data of {name!r} lie in another file; do not use it")
    if dataset.dtype.hasobject:
        raise UnsafeStoreError(
            f"{path}: {name!r} holds objects of variable size, where fixed-size numbers belong"
        )
    chunk_bytes = np.prod(dataset.chunks or (), dtype=float) * dataset.dtype.itemsize
    if chunk_bytes > MAX_CHUNK_BYTES:
        raise UnsafeStoreError(f"{path}: {name!r} has chunks {dataset.chunks}, too large to read")
    return dataset


def check_filters(dataset: h5py.Dataset, path: Path, *, is_compressed: bool) -> None:
    """Raise `UnsafeStoreError` unless the filters are those that store.json announces."""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if filters != ([ZSTD] if is_compressed else []):
        said = "zstd alone" if is_compressed else "none"
        raise UnsafeStoreError(
            f"{path}: {dataset.name!r} goes through HDF5 filters {filters}, "
            f"store.json announces {said}; do not use this file"
        )


def check_size(
    dataset: h5py.Dataset, path: Path, file_bytes: int, *, is_compressed: bool = False
) -> None:
    """Raise `UnsafeStoreError` for a dataset that its file cannot hold, or hardly can."""
    declared = int(np.prod(dataset.shape, dtype=float)) * dataset.dtype.itemsize
    if declared > file_bytes * (MAX_COMPRESSION if is_compressed else 1):
        raise UnsafeStoreError(
            f"{path}: {dataset.name!r} claims {declared} bytes, the file has {file_bytes}"
            + (f"; more than {MAX_COMPRESSION} to 1 is not believed" if is_compressed else "")
        )


def text_attribute(holder: h5py.File | h5py.Dataset, name: str) -> str | None:
    """Return an attribute of fixed length; None when there is none.

    Texts of variable length lie in a heap of the file, and HDF5 crashes where that is damaged.
    """
    if name not in holder.attrs:
        return None
    kind = holder.attrs.get_id(name).get_type()
    if not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str():
        raise UnsafeStoreError(f"attribute {name!r} of {holder.name} is not a text of fixed length")
    return bytes(holder.attrs[name]).decode()


def check_rows(dataset: h5py.Dataset, path: Path, array: ArraySpec) -> None:
    """Raise `DamageError` unless the rows are those of `array`."""
    shape, dtype = dataset.shape, dataset.dtype
    if shape[1:] != array.stored_row_shape or dtype not in array.encoding.stored:
        raise DamageError(
            f"{path}: {array.path} holds rows {shape[1:]} of {dtype}, store.json says "
            f"{array.stored_row_shape} of {' or '.join(map(str, array.encoding.stored))}"
        )
    if dataset.chunks is None or dataset.chunks[1:] != shape[1:]:
        raise DamageError(f"{path}: {array.path} has chunks {dataset.chunks}, not whole rows")
    axes = text_attribute(dataset, "axes")
    if axes != array.axes:
        raise DamageError(f"{path}: {array.path} has axes {axes!r}, expected {array.axes!r}")
