"""`store.json`: the spec and its digest, what is stored, where the videos came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from features_store.errors import StoreError, UsageError
from features_store.format.disk import write_atomically
from features_store.format.layout import FORMAT_VERSION, ArraySpec, LayerShape, shard_arrays
from features_store.format.safety import read_json
from features_store.spec import Spec, require_same_spec

FILE_NAME = "store.json"


@dataclass(frozen=True)
class StoreHeader:
    """What `store.json` says.

    Attributes:
        layers: in the order of extraction; the last is the top.
        dtype, compression: how cubes are stored; see `layout.Dtype` and `layout.Compression`.
        has_diffs: whether frame differences are stored; imported features have none.
        has_diff_cubes: whether cubes of difference images are stored.
        root: the folder that video ids are relative to, as it was at extraction.
        licence, origin, citation: of the videos, in the words of whoever made the store.
        versions: libraries that wrote the store; information, not part of the spec.
    """

    spec: Spec
    layers: tuple[LayerShape, ...]
    root: str
    views: tuple[str, ...] = ("center",)
    dtype: str = "float16"
    compression: str = "none"
    has_diffs: bool = True
    has_diff_cubes: bool = False
    licence: str = ""
    origin: str = ""
    citation: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

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
        )

    def layer(self, name: str) -> LayerShape:
        """Return a layer by name; raise `StoreError` for one that is not stored."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        stored = ", ".join(layer.name for layer in self.layers)
        raise StoreError(f"no layer {name!r} in this store; it holds: {stored}")


def write_header(store: Path, header: StoreHeader) -> None:
    """Write `store.json`, whole or not at all."""
    document = {
        "format_version": FORMAT_VERSION,
        "licence": header.licence,
        "origin": header.origin,
        "citation": header.citation,
        "root": header.root,
        "spec_digest": header.spec.digest,
        "spec": header.spec.to_json(),
        "layers": [
            {"name": la.name, "grid_size": la.grid_size, "dim": la.dim} for la in header.layers
        ],
        "views": list(header.views),
        "dtype": header.dtype,
        "compression": header.compression,
        "has_diffs": header.has_diffs,
        "has_diff_cubes": header.has_diff_cubes,
        "versions": dict(header.versions),
    }
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
    if not isinstance(document, dict) or document.get("format_version") != FORMAT_VERSION:
        version = document.get("format_version") if isinstance(document, dict) else None
        raise StoreError(
            f"{path} has format_version {version}, this code reads {FORMAT_VERSION}; "
            "upgrade cubereel or extract the features again"
        )
    return _parse(path, document)


_TYPES: Mapping[str, type] = {
    "layers": list, "root": str, "views": list, "dtype": str, "compression": str, "has_diffs": bool,
    "has_diff_cubes": bool,
    "licence": str, "origin": str, "citation": str, "versions": dict,
}  # fmt: skip


def _parse(path: Path, document: Mapping[str, Any]) -> StoreHeader:
    document = {"has_diff_cubes": False} | dict(document)  # stores that were made before it
    for name, kind in _TYPES.items():
        if not isinstance(document.get(name), kind):
            raise StoreError(
                f"{path}: {name!r} is {document.get(name)!r}, expected {kind.__name__}"
            )
    values = {name: document[name] for name in _TYPES}
    try:
        values["layers"] = tuple(LayerShape(**layer) for layer in document["layers"])
        values["views"] = tuple(LayerShape(view, 1, 1).name for view in document["views"])
        header = StoreHeader(spec=Spec.from_json(document["spec"]), **values)
        header.arrays  # noqa: B018  # checks dtype and compression
    except (KeyError, TypeError, UsageError, StoreError) as err:
        raise StoreError(f"{path} cannot be understood: {err}") from err
    if not header.layers or not header.views:
        raise StoreError(f"{path} lists no layer or no view")
    said = document.get("spec_digest")
    if header.spec.digest != said:
        raise StoreError(
            f"{path} was edited: its spec has digest {header.spec.digest[:12]}, "
            f"it says {str(said)[:12]}; restore the original file"
        )
    return header


def reconcile(stored: StoreHeader, wanted: StoreHeader, *, store: Path) -> StoreHeader:
    """Return the header under which `wanted` may extend a store, or say what differs.

    Root, licence, origin, citation and versions stay as they were first written, except that an
    empty one may be filled in.
    """
    require_same_spec(stored.spec, wanted.spec, store=str(store))
    for name in ("layers", "views", "dtype", "compression", "has_diffs", "has_diff_cubes"):
        ours, theirs = getattr(stored, name), getattr(wanted, name)
        if ours != theirs:
            raise StoreError(
                f"{store} has {name} {ours}, but {theirs} is to be added; write to another store, "
                "or repack one of the two ('cubereel store repack')"
            )
    filled = {
        name: getattr(wanted, name)
        for name in ("licence", "origin", "citation")
        if not getattr(stored, name)
    }
    return replace(stored, **filled)
