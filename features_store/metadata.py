"""`store.json`: the spec and its digest, what is stored, where the videos came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from features_store.errors import StoreError, UsageError, nearest_name
from features_store.format.encodings import Encoding, find_encoding
from features_store.format.layout import (
    FORMAT_VERSION,
    ArraySpec,
    LayerShape,
    other_version,
    shard_arrays,
)
from features_store.format.outputs import write_atomically
from features_store.format.records import max_videos
from features_store.format.safety import read_json
from features_store.paths import STORE, STORE_FILE
from features_store.plain import from_plain, to_plain
from features_store.sources import SOURCE_ID, SourceTerms, join_sources
from features_store.spec import MAX_TEXT, Spec, require_same_spec

FILE_NAME = STORE_FILE
MAX_VERSIONS, MAX_SOURCES = 2**8, 2**14
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

    @property
    def max_unit_videos(self) -> int:
        """How many videos a shard may have."""
        return max_videos(len(self.arrays), self.spec.sampling.draws_shape)

    def source(self, source_id: str) -> SourceTerms:
        """Return a source by its id; raise `StoreError` for one that nothing is said of."""
        for source in self.sources:
            if source.id == source_id:
                return source
        raise StoreError(f"store.json says nothing of source {source_id!r}")

    def layer(self, name: str) -> LayerShape:
        """Return a layer by name; raise `UsageError` for one that is not stored."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        hint = nearest_name(name, [layer.name for layer in self.layers])
        raise UsageError(f"no layer {name!r} in this store; {hint}")

    def require_view(self, name: str) -> str:
        """Return the name of a view; raise `UsageError` for one that is not stored."""
        if name not in self.views:
            hint = nearest_name(name, list(self.views))
            raise UsageError(f"no view {name!r} in this store; {hint}")
        return name


def is_store(path: Path) -> bool:
    """Whether something at a path calls itself a store."""
    return (path / FILE_NAME).exists()


def header_bytes(header: StoreHeader) -> bytes:
    """Return what `store.json` is to say."""
    # In the order in which people read it.
    document: dict[str, Any] = {"format_version": FORMAT_VERSION, "sources": None}
    document |= {"spec_digest": header.spec.digest}
    document |= to_plain(header) | {"spec": header.spec.to_json()}
    return json.dumps(document, indent=1).encode()


def write_header(store: Path, header: StoreHeader) -> None:
    """Write `store.json`, whole or not at all."""
    write_atomically(store / FILE_NAME, header_bytes(header))


def read_header(store: Path) -> StoreHeader:
    """Read and check `store.json`.

    Raises:
        UsageError: there is no store.
        StoreError: it cannot be understood, or its digest is not its spec's.
    """
    path = STORE.require(store) / FILE_NAME
    try:
        document = read_json(path)
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
        header.spec.check()
        _check_versions(header.versions)
        header.arrays  # noqa: B018  # checks dtype and compression, and how many there are
        for view in header.views:
            LayerShape(view, 1, 1)  # a view's name is made as a layer's is
    except KeyError as err:
        raise StoreError(f"{path} lacks the field {err}; restore the original file") from None
    except (ValueError, UsageError, StoreError) as err:
        raise StoreError(f"{path} cannot be understood: {err}") from err
    if not header.layers or not header.views or not 0 < len(header.sources) <= MAX_SOURCES:
        raise StoreError(f"{path} lists no layer, no view, or no source or more than {MAX_SOURCES}")
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


def _check_versions(versions: Mapping[str, str]) -> None:
    if len(versions) > MAX_VERSIONS or any(len(n + v) > MAX_TEXT for n, v in versions.items()):
        raise ValueError(
            f"versions has more than {MAX_VERSIONS} libraries, or a text of more than {MAX_TEXT} "
            "characters"
        )


def reconcile(
    stored: StoreHeader, wanted: StoreHeader, *, store: Path, added: Path | None = None
) -> StoreHeader:
    """Return the header under which `wanted` may extend a store, or say what differs.

    Its sources are those of both; versions stay as they were first written.

    Args:
        added: the store that is to be added; None where videos are.
    """
    require_same_spec(
        stored.spec, wanted.spec, of=str(store),
        than="was asked for" if added is None else str(added),
        advice="write to another store, or repeat the options that the store was made with"
        if added is None
        else "only stores of one spec can be joined; extract one of the two again like the other",
    )  # fmt: skip
    for name in COMMON:
        ours, theirs = getattr(stored, name), getattr(wanted, name)
        if ours != theirs:
            raise StoreError(
                f"{store} has {name} {ours}, {added or 'what is to be added'} has {theirs}; write "
                "to another store, or repack one of the two ('cubereel store repack')"
            )
    return replace(stored, sources=join_sources(stored.sources, wanted.sources))
