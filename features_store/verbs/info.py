"""What a store holds, in a few lines; where the videos are from comes first."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from features_store.ledger import read_failures
from features_store.sources import TERMS
from features_store.spec import flatten
from features_store.store import Store


def store_info(path: Path) -> dict[str, Any]:
    """Return names and values, in the order in which they are to be shown."""
    with Store(path) as store:
        header = store.header
        manifest = store.manifest
        labels = {manifest[i].label for i in store.ids if i in manifest} - {""}
        failed = {failure.video_id for failure in read_failures(path)} - set(store.ids)
        layers = ", ".join(
            f"{la.name} {la.grid_size}×{la.grid_size}×{la.dim}" for la in header.layers
        )
        return {
            **_said(store),
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
            "shards": len(store.catalogue.shards),
            "bytes": sum(entry.bytes for entry in store.catalogue.shards.values()),
            "revision": store.revision,
            "spec digest": header.spec.digest,
            **flatten(header.spec.to_json()),
            **{f"made with {name}": value for name, value in header.versions.items()},
        }


def _said(store: Store) -> dict[str, str]:
    """Return what is said of each source; of several, by the id of each."""
    sources = store.header.sources
    counts = Counter(record.source for record in store.records()) if len(sources) > 1 else {}
    said: dict[str, str] = {}
    for source in sources:
        of = f" of {source.id}" if counts else ""
        said |= {name + of: getattr(source, name) or "not said" for name in TERMS}
        said |= {f"root{of}": source.root}
        said |= {f"videos{of}": str(counts[source.id])} if counts else {}
    return said
