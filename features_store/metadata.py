"""`store.json`: the spec and its digest, what is stored, where the videos came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from features_store.errors import StoreError, UsageError
from features_store.format.disk import write_atomically
from features_store.format.encodings import Encoding, find_encoding
from features_store.format.layout import (
    FORMAT_VERSION,
    ArraySpec,
    LayerShape,
    other_version,
    shard_arrays,
)
from features_store.format.safety import read_json
from features_store.plain import from_plain, to_plain
from features_store.sources import SOURCE_ID, SourceTerms, join_sources
from features_store.spec import Spec, require_same_spec

FILE_NAME = "store.json"
# What two stores must have alike to be joined, beside their specs.
COMMON = (
    *("layers", "views", "dtype", "compression", "has_diffs", "has_diff_cubes", "has_windows"),
)


@dataclass(frozen=True)
class StoreHeader:
    """What `store.json` says.

    Attributes:
        layers: in the order of extraction; the last is the top.
        dtype, compression: how cubes are stored; see `encodings.Dtype` and `encodings.Compression`.
        has_diffs: whether frame differences are stored; imported features have none.
        has_diff_cubes: whether cubes of difference images are stored.
        has_windows: whether rows say what time they saw; reserved, see FORMAT.md.
        sources: where its videos are from.
        versions: libraries that wrote the store; information, not part of the spec.
    """

    spec: Spec
    layers: tuple[LayerShape, ...]
    sources: tuple[SourceTerms, ...]
    views: tuple[str, ...] = ("center",)
    dtype: str = "float16"
    compression: str = "none"
    has_diffs: bool = True
    has_diff_cubes: bool = False
    has_windows: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def encoding(self) -> Encoding:
        """How cubes are stored, before compression."""
        return find_encoding(self.dtype)

    @property
    def arrays(self) -> list[ArraySpec]:
        """Every per-frame array of this store's shards."""
        return shard_arrays(
            self.layers,
            views=self.views,
            dtype=self.dtype,
            compression=self.compression,
            has_diffs=self.has_diffs,
            has_diff_cubes=self.has_diff_cubes,
            has_windows=self.has_windows,
        )

    def source(self, source_id: str) -> SourceTerms:
        """Return a source by its id; raise `StoreError` for one that nothing is said of."""
        for source in self.sources:
            if source.id == source_id:
                return source
        raise StoreError(f"store.json says nothing of source {source_id!r}")

    def layer(self, name: str) -> LayerShape:
        """Return a layer by name; raise `StoreError` for one that is not stored."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        stored = ", ".join(layer.name for layer in self.layers)
        raise StoreError(f"no layer {name!r} in this store; it holds: {stored}")


def is_store(path: Path) -> bool:
    """Whether something at a path calls itself a store."""
    return (path / FILE_NAME).exists()


def write_header(store: Path, header: StoreHeader) -> None:
    """Write `store.json`, whole or not at all."""
    # In the order in which people read it.
    document: dict[str, Any] = {"format_version": FORMAT_VERSION, "sources": None}
    document |= {"spec_digest": header.spec.digest}
    document |= to_plain(header) | {"spec": header.spec.to_json()}
    write_atomically(store / FILE_NAME, json.dumps(document, indent=1).encode())


def read_header(store: Path) -> StoreHeader:
    """Read and check `store.json`.

    Raises:
        StoreError: there is none, it cannot be understood, or its digest is not its spec's.
    """
    path = store / FILE_NAME
    try:
        document = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"{store} is not a feature store (no {FILE_NAME}); 'cubereel extract' makes one"
        ) from None
    except ValueError as err:
        raise StoreError(f"{path} cannot be read: {err}") from err
    if not isinstance(document, dict) or "format_version" not in document:
        raise StoreError(f"{path} cannot be understood: it lacks the field 'format_version'")
    version = document["format_version"]
    if type(version) is not int or version != FORMAT_VERSION:
        raise StoreError(f"{store} {other_version(version)}")
    return _parse(path, document)


def _parse(path: Path, document: Mapping[str, Any]) -> StoreHeader:
    try:
        known = {each.name: document[each.name] for each in fields(StoreHeader)}
        header = from_plain(StoreHeader, known)
        header.spec.sampling.check()
        for view in header.views:
            LayerShape(view, 1, 1)  # a view's name is made as a layer's is
        header.arrays  # noqa: B018  # checks dtype and compression
    except KeyError as err:
        raise StoreError(f"{path} lacks the field {err}; restore the original file") from None
    except (ValueError, UsageError, StoreError) as err:
        raise StoreError(f"{path} cannot be understood: {err}") from err
    if not header.layers or not header.views or not header.sources:
        raise StoreError(f"{path} lists no layer, no view or no source")
    ids = [source.id for source in header.sources]
    if len(set(ids)) < len(ids) or not all(map(SOURCE_ID.fullmatch, ids)):
        raise StoreError(f"{path} has sources {ids}; expected 8 hex digits each, none twice")
    said = document.get("spec_digest")
    if header.spec.digest != said:
        raise StoreError(
            f"{path} was edited: its spec has digest {header.spec.digest[:12]}, "
            f"it says {str(said)[:12]}; restore the original file"
        )
    return header


def reconcile(stored: StoreHeader, wanted: StoreHeader, *, store: Path) -> StoreHeader:
    """Return the header under which `wanted` may extend a store, or say what differs.

    Its sources are those of both; versions stay as they were first written.
    """
    require_same_spec(stored.spec, wanted.spec, store=str(store))
    for name in COMMON:
        ours, theirs = getattr(stored, name), getattr(wanted, name)
        if ours != theirs:
            raise StoreError(
                f"{store} has {name} {ours}, but {theirs} is to be added; write to another store, "
                "or repack one of the two ('cubereel store repack')"
            )
    return replace(stored, sources=join_sources(stored.sources, wanted.sources))
