"""Are two stores the same features? Aligned by id and pts, compared frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from features_store.layout import cube_path, row_blocks
from features_store.spec import spec_differences
from features_store.store import Store

MIN_COSINE = 0.9999


@dataclass
class VideoDiff:
    """How one video's cubes differ between two stores; cosine over a frame's whole cube."""

    video_id: str
    worst_cosine: float
    mean_cosine: float
    max_abs: float
    note: str = ""

    @property
    def equal(self) -> bool:
        """Same frames, and every frame's cosine at least `MIN_COSINE`."""
        return not self.note and self.worst_cosine >= MIN_COSINE


@dataclass
class StoreDiff:
    """What differs between stores A and B."""

    spec: list[tuple[str, Any, Any]]
    only_in_a: list[str]
    only_in_b: list[str]
    layers: tuple[list[str], list[str]]
    videos: list[VideoDiff] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Same ids, pts and shapes, and every frame's cosine at least `MIN_COSINE`."""
        same_sets = not (self.only_in_a or self.only_in_b) and self.layers[0] == self.layers[1]
        return same_sets and all(video.equal for video in self.videos)

    @property
    def identical(self) -> bool:
        """Equal, and no value differs at all."""
        return self.equal and all(video.max_abs == 0 for video in self.videos)


def frame_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each frame's cube; two all-zero frames count as 1."""
    x = a.reshape(len(a), -1).astype(np.float64)
    y = b.reshape(len(b), -1).astype(np.float64)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    both_zero = ~x.any(axis=1) & ~y.any(axis=1)
    cosines = np.einsum("nd,nd->n", x, y) / np.where(norms > 0, norms, 1)
    return np.where(both_zero, 1.0, cosines)


def diff_stores(a: Store, b: Store) -> StoreDiff:
    """Compare every video and layer that both stores hold; memory stays bounded."""
    ids_a, ids_b = set(a.ids), set(b.ids)
    names = tuple([layer.name for layer in store.header.layers] for store in (a, b))
    result = StoreDiff(
        spec_differences(a.header.spec, b.header.spec),
        sorted(ids_a - ids_b),
        sorted(ids_b - ids_a),
        (names[0], names[1]),
    )
    common = [name for name in names[0] if name in names[1]]
    result.videos = [_diff_video(a, b, video_id, common) for video_id in sorted(ids_a & ids_b)]
    return result


def _diff_video(a: Store, b: Store, video_id: str, layers: list[str]) -> VideoDiff:
    pts_a, pts_b = (store.read(video_id, "pts_seconds") for store in (a, b))
    if len(pts_a) != len(pts_b):
        return VideoDiff(video_id, 0, 0, np.inf, f"{len(pts_a)} frames against {len(pts_b)}")
    if not np.array_equal(pts_a, pts_b):
        return VideoDiff(video_id, 0, 0, np.inf, "frames of other times (pts_seconds differ)")
    cosines, largest = [], 0.0
    paths = [cube_path("center", layer) for layer in layers] + ["diffs/center"]
    for path in paths:
        shapes = [store.read(video_id, path, stop=1).shape for store in (a, b)]
        if shapes[0] != shapes[1]:
            return VideoDiff(
                video_id, 0, 0, np.inf, f"{path} is {shapes[0][1:]} and {shapes[1][1:]}"
            )
        for start, stop in row_blocks(0, len(pts_a), 4 * int(np.prod(shapes[0]))):
            x, y = (store.read(video_id, path, start=start, stop=stop) for store in (a, b))
            if path.startswith("cubes/"):
                cosines.append(frame_cosines(x, y))
            largest = max(largest, float(np.abs(x.astype(np.float32) - y.astype(np.float32)).max()))
    joined = np.concatenate(cosines)
    return VideoDiff(video_id, float(joined.min()), float(joined.mean()), largest)
