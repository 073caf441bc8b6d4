"""Are two stores the same features? Aligned by id and time, compared frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from features_store.format.layout import cube_path, diff_cube_path, is_cubes, row_blocks
from features_store.spec import spec_differences
from features_store.store import Store

MIN_COSINE = 0.9999


@dataclass
class VideoDiff:
    """How one video's cubes differ between two stores; cosine over a frame's whole cube.

    Attributes:
        num_frames: compared: those of the same time.
        note: why the video is not the same for another reason than its values.
    """

    video_id: str
    num_frames: int
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
    """What differs between stores A and B.

    Attributes:
        contents: layers, views and diffs of A and of B.
    """

    spec: list[tuple[str, Any, Any]]
    only_in_a: list[str]
    only_in_b: list[str]
    contents: tuple[list[str], list[str]]
    videos: list[VideoDiff] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Same ids, pts and shapes, and every frame's cosine at least `MIN_COSINE`."""
        same_sets = not (self.only_in_a or self.only_in_b) and self.contents[0] == self.contents[1]
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


def same_times(pts_a: np.ndarray, pts_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions, in A and in B, of frames of the same time to a microsecond.

    >>> same_times(np.array([0.0, 0.1, 0.2]), np.array([0.0, 0.2, 0.4]))
    (array([0, 2]), array([0, 1]))
    """
    if np.array_equal(pts_a, pts_b):
        return np.arange(len(pts_a)), np.arange(len(pts_b))
    ticks_a, ticks_b = (np.rint(pts * 1e6).astype(np.int64) for pts in (pts_a, pts_b))
    _, in_a, in_b = np.intersect1d(ticks_a, ticks_b, return_indices=True)
    return in_a, in_b


def diff_stores(a: Store, b: Store) -> StoreDiff:
    """Compare every video, view and layer that both stores hold; memory stays bounded."""
    ids_a, ids_b = set(a.ids), set(b.ids)
    contents = (_contents(a), _contents(b))
    result = StoreDiff(
        spec_differences(a.header.spec, b.header.spec),
        sorted(ids_a - ids_b),
        sorted(ids_b - ids_a),
        contents,
    )
    common = [path for path in contents[0] if path in contents[1]]
    result.videos = [_diff_video(a, b, video_id, common) for video_id in sorted(ids_a & ids_b)]
    return result


def _contents(store: Store) -> list[str]:
    views = store.header.views
    layers = store.header.layers
    paths = [cube_path, diff_cube_path] if store.header.has_diff_cubes else [cube_path]
    cubes = [path(view, layer.name) for path in paths for view in views for layer in layers]
    return cubes + [f"diffs/{view}" for view in views if store.header.has_diffs]


def _diff_video(a: Store, b: Store, video_id: str, paths: list[str]) -> VideoDiff:
    pts = [store.read(video_id, "pts_seconds") for store in (a, b)]
    rows = same_times(*pts)
    num_frames = len(rows[0])
    note = ""
    if not num_frames == len(pts[0]) == len(pts[1]):
        note = f"{len(pts[0])} frames against {len(pts[1])}, {num_frames} of the same time"
    elif a.video(video_id).draws != b.video(video_id).draws:
        note = "the same frames, drawn otherwise"
    cosines, largest = [np.ones(0)], 0.0
    for path in paths:
        shapes = [store.read(video_id, path, stop=1).shape[1:] for store in (a, b)]
        if shapes[0] != shapes[1]:
            note = note or f"{path} is {shapes[0]} and {shapes[1]}"
            continue
        for start, stop in row_blocks(0, num_frames, 8 * int(np.prod(shapes[0]))):
            x, y = (
                _read_rows(store, video_id, path, chosen[start:stop])
                for store, chosen in zip((a, b), rows, strict=True)
            )
            if is_cubes(path):
                cosines.append(frame_cosines(x, y))
            largest = max(largest, float(np.abs(x.astype(np.float32) - y.astype(np.float32)).max()))
    joined = np.concatenate(cosines)
    if not len(joined):
        return VideoDiff(video_id, num_frames, 0.0, 0.0, np.inf, note or "nothing to compare")
    return VideoDiff(video_id, num_frames, float(joined.min()), float(joined.mean()), largest, note)


def _read_rows(store: Store, video_id: str, path: str, rows: np.ndarray) -> np.ndarray:
    """Return some rows, in rising order, of a video."""
    first, last = int(rows[0]), int(rows[-1])
    span = store.read(video_id, path, start=first, stop=last + 1, copy=False)
    chosen: np.ndarray = span[rows - first]
    return chosen
