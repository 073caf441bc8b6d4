"""Opening a shard that somebody else may have made: refuse first, then read.

A shard is untrusted. Links that leave the file, data kept outside it and declared sizes that the
file cannot hold are refused before any memory is taken.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from features_store.errors import DamageError, StoreError, UnsafeStoreError
from features_store.layout import FORMAT_VERSION, ArraySpec
from features_store.records import record_dtype


def open_shard(path: Path, arrays: Sequence[ArraySpec], *, digest: str) -> h5py.File:
    """Open a shard for reading and check that it holds `arrays` and nothing that reaches outside.

    Raises:
        DamageError: it is not a readable HDF5 file, or an array is missing or of another shape.
        UnsafeStoreError: a link, external storage, a virtual dataset or a filter is in it.
        StoreError: another format version or another spec.
    """
    try:
        # No lock: sealed shards never change, and file systems that cannot lock must be readable.
        # No chunk cache: uncompressed windows are read faster without.
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except OSError as err:
        raise DamageError(
            f"{path} cannot be read as HDF5: {err}; run 'cubereel store verify'"
        ) from err
    try:
        _check(file, path, arrays, digest)
    except BaseException:
        file.close()
        raise
    return file


def _check(file: h5py.File, path: Path, arrays: Sequence[ArraySpec], digest: str) -> None:
    version = file.attrs.get("format_version")
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{path} has format_version {version}, this code reads {FORMAT_VERSION}; "
            "upgrade cubereel or extract the features again"
        )
    if file.attrs.get("spec_digest") != digest:
        raise StoreError(f"{path} was written under another spec than its store.json says")
    check_links(file, path)
    names = json.loads(file.attrs["arrays"])
    if names != [array.path for array in arrays]:
        raise DamageError(f"{path} lists arrays {names}, store.json {[a.path for a in arrays]}")
    videos = _dataset(file, path, "videos")
    expected = record_dtype(id_bytes=videos.dtype["id"].itemsize, num_arrays=len(arrays))
    if videos.dtype != expected:
        raise DamageError(f"{path}: the table 'videos' has other columns than FORMAT.md says")
    lengths = {len(_dataset(file, path, array.path)) for array in arrays}
    if len(lengths) != 1:
        raise DamageError(f"{path}: its arrays have different numbers of rows: {sorted(lengths)}")
    for array in arrays:
        dataset = file[array.path]
        if dataset.shape[1:] != array.row_shape or dataset.dtype != array.dtype:
            raise DamageError(
                f"{path}: {array.path} holds rows {dataset.shape[1:]} of {dataset.dtype}, "
                f"store.json says {array.row_shape} of {array.dtype}"
            )


def check_links(group: h5py.Group, path: Path) -> None:
    """Raise `UnsafeStoreError` for a soft or external link anywhere below `group`."""
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise UnsafeStoreError(
                f"{path}: {group.name}/{name} is a {type(link).__name__}; "
                "a store may not point outside its own data, do not use this file"
            )
        if isinstance(child := group[name], h5py.Group):
            check_links(child, path)


def _dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise DamageError(f"{path} has no dataset {name!r}")
    if dataset.external or dataset.is_virtual:
        raise UnsafeStoreError(f"{path}: the data of {name!r} lie in another file; do not use it")
    if dataset.id.get_create_plist().get_nfilters():
        raise UnsafeStoreError(f"{path}: {name!r} is compressed, which format version 1 is not")
    declared = int(np.prod(dataset.shape, dtype=np.float64)) * dataset.dtype.itemsize
    if declared > path.stat().st_size:
        raise UnsafeStoreError(
            f"{path}: {name!r} claims {declared} bytes, the file has {path.stat().st_size}"
        )
    return dataset
