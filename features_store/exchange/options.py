"""What an import is told beside source, store and format; a command line reads it without HDF5."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from features_store.paths import ANNOTATIONS

# Of these a format takes those that it names in its `options`.
OF_FORMATS = ("fps", "feat_stride", "feat_num_frames", "grid_size", "annotations")


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What the user says of features that do not say it themselves; None and "" are not said.

    The text beside each field is the help of its flag. A name becomes the backbone
    ``imported:<name>``; see `timing.Timing` for `fps`, `feat_stride` and `feat_num_frames`.
    """

    name: Annotated[str, "What computed them, such as i3d-kinetics; not for folder."] = ""
    dtype: Annotated[str | None, "float16 or float32; that of the source if none."] = None
    fps: Annotated[float | None, "Frames a second of the videos."] = None
    feat_stride: Annotated[float | None, "Frames from one row of features to the next."] = None
    feat_num_frames: Annotated[int | None, "Frames behind a row of features [1]."] = None
    grid_size: Annotated[int | None, "sharma: K of the K×K cells of a row [7]."] = None
    annotations: Annotated[
        Path | None, "npy, npz: JSON with fps, stride, labels of videos.", ANNOTATIONS
    ] = None
    licence: Annotated[str, "Licence of the videos, kept in the store."] = ""
    origin: Annotated[str, "Where videos and features are from."] = ""
    citation: Annotated[str, "What users of the store are to cite."] = ""
