"""Drawing attention over frames, as a film or as a strip.

Sharma et al. (2015) enlarge the K × K weights smoothly and let them brighten the frame; so here:
weights are divided by their largest in the frame, and what is not looked at is darkened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from matplotlib.figure import Figure

from features_store.errors import UsageError

FILM_FPS = 4
DARKEST = 0.25
NUM_IN_STRIP = 8


@dataclass(frozen=True)
class AttendedFrame:
    """A picture (H, W, 3) uint8, weights (K, K), its time, and the rectangle the weights cover."""

    picture: np.ndarray
    weights: np.ndarray
    pts_seconds: float
    crop: tuple[float, float, float, float]


def heat(frame: AttendedFrame) -> np.ndarray:
    """Return the weights as a picture (H, W) in 0…1, zero where the backbone saw nothing.

    A frame whose weights are all alike is 1 throughout.
    """
    height, width = frame.picture.shape[:2]
    x, y, crop_width, crop_height = frame.crop
    inner = (max(1, round(crop_height)), max(1, round(crop_width)))
    weights = torch.from_numpy(np.ascontiguousarray(frame.weights, np.float32))[None, None]
    large = F.interpolate(weights, size=inner, mode="bicubic").clamp(min=0)[0, 0].numpy()
    large = large / max(float(large.max()), 1e-12)
    canvas = np.zeros((height, width), np.float32)
    left, top = round(x), round(y)
    rows = slice(max(0, top), min(height, top + inner[0]))
    columns = slice(max(0, left), min(width, left + inner[1]))
    canvas[rows, columns] = large[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    return canvas


def blend(frame: AttendedFrame) -> np.ndarray:
    """Return the picture lit by its attention, uint8: dark outside, a warm tint at the peak."""
    warmth = heat(frame)[..., None]
    tint = mpl.colormaps["inferno"](warmth[..., 0])[..., :3] * 255
    lit = frame.picture * (DARKEST + (1 - DARKEST) * warmth)
    mixed: np.ndarray = np.clip(lit * (1 - 0.35 * warmth) + tint * 0.35 * warmth, 0, 255)
    return mixed.astype(np.uint8)


def write_strip(path: Path, rows: Mapping[str, Sequence[AttendedFrame]], *, title: str) -> None:
    """Write a PNG: frames above, and a row of them under each attention, with its name."""
    frames = next(iter(rows.values()))
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(NUM_IN_STRIP, len(frames))).round())
    columns = [int(i) for i in chosen]
    aspect = frames[0].picture.shape[0] / frames[0].picture.shape[1]
    num_rows = 1 + len(rows)
    size = (2 * len(columns), 2 * num_rows * aspect + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(num_rows, len(columns), squeeze=False)
    for axis, i in zip(axes[0], columns, strict=True):
        axis.imshow(frames[i].picture)
        axis.set_title(f"{frames[i].pts_seconds:.2f} s", fontsize=8)
    for row, (name, attended) in zip(axes[1:], rows.items(), strict=True):
        row[0].set_ylabel(name, fontsize=8)
        for axis, i in zip(row, columns, strict=True):
            axis.imshow(blend(attended[i]))
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)


def write_mp4(path: Path, rows: Mapping[str, Sequence[AttendedFrame]], *, title: str) -> None:
    """Write a film of four frames a second: the frame, then to its right each attention."""
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        first = next(iter(rows.values()))[0]
        height, width = first.picture.shape[:2]
        stream = container.add_stream("libx264", rate=FILM_FPS)
        stream.width, stream.height = (1 + len(rows)) * width, height
        stream.pix_fmt = "yuv420p"
        for frames in zip(*rows.values(), strict=True):
            panes = [frames[0].picture, *map(blend, frames)]
            picture = np.concatenate(panes, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


WRITERS = {".mp4": write_mp4, ".png": write_strip}


def check_picture(path: Path) -> None:
    """Raise `UsageError` unless a film or a strip can be written under that name."""
    if path.suffix not in WRITERS:
        raise UsageError(f"`out` must end in .mp4 or .png, got {path.name!r}")


def write_picture(path: Path, rows: Mapping[str, Sequence[AttendedFrame]], *, title: str) -> None:
    """Write a film or a strip, as the file's ending says, and the folder it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[path.suffix](path, rows, title=title)
