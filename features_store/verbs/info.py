"""What a store holds, in a few lines; where the videos are from comes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from features_store.index import list_shards
from features_store.ledger import read_failures
from features_store.spec import flatten
from features_store.store import Store


def store_info(path: Path) -> dict[str, Any]:
    """Return names and values, in the order in which they are to be shown."""
    with Store(path) as store:
        header = store.header
        manifest = store.manifest
        labels = {manifest[i].label for i in store.ids if i in manifest} - {""}
        failed = {failure.video_id for failure in read_failures(path)} - set(store.ids)
        shards = list_shards(path)
        layers = ", ".join(
            f"{la.name} {la.grid_size}×{la.grid_size}×{la.dim}" for la in header.layers
        )
        return {
            "licence": header.licence or "not said",
            "origin": header.origin or "not said",
            "citation": header.citation or "not said",
            "root": header.root,
            "videos": len(store),
            "partial": len(store.partial_ids),
            "failed": len(failed),
            "frames": store.num_frames,
            "labels": len(labels),
            "layers": layers,
            "views": ", ".join(header.views),
            "dtype": header.dtype,
            "compression": header.compression,
            "diffs": "stored" if header.has_diffs else "none",
            "diff cubes": "stored" if header.has_diff_cubes else "none",
            "shards": len(shards),
            "bytes": sum((path / "shards" / name).stat().st_size for name in shards),
            "spec digest": header.spec.digest,
            **flatten(header.spec.to_json()),
            **{f"made with {name}": value for name, value in header.versions.items()},
        }
