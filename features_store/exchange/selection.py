"""The part of a store that is exported: which videos, which layer, and how they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from einops import reduce

from features_store.errors import ContractError, DamageError, UsageError
from features_store.exchange.array_files import Blocks
from features_store.exchange.timing import Timing, said_timing, stored_timing
from features_store.format.layout import LayerShape, cube_path, row_blocks
from features_store.format.records import VideoRecord, check_id
from features_store.manifest import ManifestRow
from features_store.metadata import StoreHeader
from features_store.sources import TERMS
from features_store.spec import canonical_json
from features_store.store import Store

Pool = Literal["mean", "max"]
KEEPS_ALL = "everything"
POOLS: Mapping[str, Pool] = {"max": "max", "mean": "mean"}


class Selection:
    """Videos of a store, in the order of its manifest, those that it does not name at the end.

    Args:
        layer: None is the top layer, or all.
        all_layers: whether None is all.
        ids: None is all videos.
        pool: how cubes of K × K cells become one row, where a format has no cells.

    Attributes:
        rows: what the manifest says of each video; empty where it says nothing.
        said: the manifest's rows of these videos, of all videos also of those that failed.
    """

    def __init__(
        self,
        store: Store,
        *,
        layer: str | None,
        all_layers: bool,
        ids: Sequence[str] | None,
        pool: Pool | None,
    ) -> None:
        self.store = store
        self.layer: LayerShape = (
            store.header.layers[-1] if layer is None else store.header.layer(layer)
        )
        self.layers = store.header.layers if layer is None and all_layers else (self.layer,)
        self.pool = pool
        self._timings: dict[str, Timing | None] = {}
        manifest = store.manifest
        some = ids is not None
        if ids is None:
            named = [video_id for video_id in manifest if video_id in store]
            ids = [*named, *(video_id for video_id in store.ids if video_id not in manifest)]
        self.ids = list(dict.fromkeys(ids))
        for video_id in self.ids:
            check_id(video_id)
            store.num_frames_of(video_id)  # raises for one that is not there
        if not self.ids:
            raise ContractError(f"{store.path} holds no video to export")
        self.rows = {i: manifest.get(i, ManifestRow(i, i)) for i in self.ids}
        self.said = [r for i, r in manifest.items() if i in self.rows or not (some or i in store)]

    def num_rows(self, video_id: str) -> int:
        """Return T."""
        return self.store.num_frames_of(video_id)

    def sound_record(self, video_id: str) -> VideoRecord:
        """Return a video's record, once its rows were found to be those that were written."""
        stored = self.store.stored_video(video_id)
        if damaged := stored.shard.damaged_arrays(stored.record):
            raise DamageError(
                f"video {video_id!r} in {self.store.path} is damaged: {damaged[0]}; run "
                "'cubereel store repair', or export the other videos"
            )
        return stored.record

    def timing(self, record: VideoRecord) -> Timing | None:
        """Return how a video's rows lie in time, None when not regularly or not known."""
        if record.id not in self._timings:
            pts_seconds = self.store.read(record.id, "pts_seconds")
            self._timings[record.id] = stored_timing(
                self.store.header.spec, record, self.rows[record.id], pts_seconds
            )
        return self._timings[record.id]

    @cached_property
    def irregular(self) -> list[str]:
        """Ids of videos whose rows have times, but no regular ones."""
        spec = self.store.header.spec
        records = [self.store.video(video_id) for video_id in self.ids]
        return [
            record.id
            for record in records
            if self.timing(record) is None and said_timing(spec, record, self.rows[record.id])
        ]

    def array(self, video_id: str, path: str) -> Blocks:
        """Return any array of a video, to be written block by block."""
        array = next(a for a in self.store.header.arrays if a.path == path)
        num_rows = self.num_rows(video_id)
        blocks = (
            self.store.read(video_id, path, start=start, stop=stop, copy=False)
            for start, stop in row_blocks(0, num_rows, array.row_bytes)
        )
        return Blocks((num_rows, *array.row_shape), array.dtype, blocks)

    def cubes(self, video_id: str) -> Blocks:
        """Return the cubes (T, K, K, D) of a video."""
        return self.array(video_id, cube_path("center", self.layer.name))

    def require_vectors(self) -> None:
        """Raise `UsageError` when there are several cells and it was not said how to pool them."""
        size = self.layer.grid_size
        if size > 1 and self.pool is None:
            raise UsageError(
                f"layer {self.layer.name!r} has {size}×{size} cells, this format one vector a "
                "frame; give `pool` mean or `pool` max, or take `kind` folder or sharma"
            )

    def vectors(self, video_id: str) -> Blocks:
        """Return one vector a frame (T, D): the only cell, or the mean or maximum over cells."""
        self.sound_record(video_id)
        cubes = self.cubes(video_id)
        is_mean = self.layer.grid_size > 1 and self.pool == "mean"
        dtype = np.dtype(np.float32) if is_mean else cubes.dtype
        return Blocks((cubes.shape[0], self.layer.dim), dtype, self._pooled(cubes, dtype))

    def _pooled(self, cubes: Blocks, dtype: np.dtype) -> Iterator[np.ndarray]:
        for block in cubes.blocks:
            yield reduce(block.astype(dtype), "t y x d -> t d", self.pool or "max")

    def notes(self, keeps: Sequence[str]) -> list[str]:
        """Return what a format that `keeps` little else leaves out of these videos."""
        if KEEPS_ALL in keeps:
            return []
        header = self.store.header
        others = {
            "groups": any(row.group for row in self.rows.values()),
            "frame differences": header.has_diffs,
            "cubes of differences": header.has_diff_cubes,
            "draws of frames": header.spec.sampling.draws_shape is not None,
            "other layers": len(header.layers) > 1,
            "other views": len(header.views) > 1,
            "exact times": any(
                said_timing(header.spec, self.store.video(i), self.rows[i]) for i in self.ids
            ),
        }
        dropped = [name for name, is_there in others.items() if is_there and name not in keeps]
        notes = [f"not kept: {', '.join(dropped)}"] if dropped else []
        if "exact times" in keeps and self.irregular:
            notes.insert(
                0,
                f"{len(self.irregular)} videos have irregular times, which annotations.json "
                f"cannot say; first: {self.irregular[0]!r}",
            )
        return notes

    def describe(self) -> dict[str, Any]:
        """Return what `export.json` says of the selection, with a digest of all of it."""
        digest = hashlib.sha256()
        timings, used = set(), set()
        for video_id in self.ids:
            record = self.store.video(video_id)
            timings.add(self.timing(record))
            used.add(record.source)
            row = vars(self.rows[video_id])
            document = {**row, "extra": dict(row["extra"]), "checksums": record.checksums}
            digest.update(canonical_json(document))
        timing = timings.pop() if len(timings) == 1 else None
        header = self.store.header
        return {
            "terms": terms_of(header, used),
            "videos": len(self.ids),
            "layers": [layer.name for layer in self.layers],
            "grid_size": self.layer.grid_size,
            "pool": self.pool,
            "fps": timing and timing.fps,
            "feat_stride": timing and timing.feat_stride,
            "feat_num_frames": timing and timing.feat_num_frames,
            "spec": header.spec.to_json(),
            "selection_sha256": digest.hexdigest(),
        }


def check_pool(name: str | None) -> Pool | None:
    """Return the way of pooling of that name."""
    if name is None:
        return None
    if name not in POOLS:
        raise UsageError(f"no way of pooling named {name!r}; there are: {', '.join(POOLS)}")
    return POOLS[name]


def terms_of(header: StoreHeader, used: Collection[str]) -> list[dict[str, str | None]]:
    """Return the terms of some of a store's sources, each once."""
    found = []
    for source in header.sources:
        terms = {name: getattr(source, name) for name in TERMS}
        if source.id in used and terms not in found:
            found.append(terms)
    return found
