"""What an import is told beside source, store and format; a command line reads it without HDF5."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Of these a format takes those that it names in its `OPTIONS`.
OF_FORMATS = ("fps", "feat_stride", "feat_num_frames", "grid_size", "annotations")


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What the user says of features that do not say it themselves; None and "" are not said.

    Attributes:
        name: of what computed them; becomes the backbone ``imported:<name>``.
        dtype: of the stored cubes; None is that of the source.
        fps, feat_stride, feat_num_frames: see `timing.Timing`.
        grid_size: K of rows that are flat cubes.
        annotations: JSON with frame rates, strides, splits and labels of videos.
        licence, origin, citation: of the videos, kept in the store.
    """

    name: str = ""
    dtype: str | None = None
    fps: float | None = None
    feat_stride: float | None = None
    feat_num_frames: int | None = None
    grid_size: int | None = None
    annotations: Path | None = None
    licence: str = ""
    origin: str = ""
    citation: str = ""
