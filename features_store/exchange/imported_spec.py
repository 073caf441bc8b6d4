"""What `store.json` says of features that were computed elsewhere (FORMAT.md, "Imported features").

What nobody told is said as unknown: `UNKNOWN` where there is text, zeros where there are numbers.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.metadata import version

import numpy as np

from features_store.errors import ContractError, UsageError
from features_store.exchange.features import ARRAY, Features, ImportedVideo
from features_store.exchange.timing import UNKNOWN, sampling_of
from features_store.metadata import StoreHeader
from features_store.sources import new_source
from features_store.spec import Preprocessing, Spec

DTYPES = ("float16", "float32")

_UNKNOWN_PREPROCESSING = Preprocessing(
    input_size=(0, 0),
    resize_size=0,
    fit="crop",
    interpolation="bilinear",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    pixel_scale=1.0,
    channel_order="rgb",
)


def identify(features: Features, *, name: str, dtype: str | None) -> tuple[StoreHeader, Features]:
    """Return the header of a store of foreign features, and the features with their SHA-256.

    The spec depends on the name and on the times that were told, not on the features, so that a
    store can grow. All are read; the digest of a video stands in its record for the media that
    nobody knows.

    Args:
        name: of what computed them, as the user says.
        dtype: of the stored cubes; None is that of the source.

    Raises:
        UsageError: there is no name, or the dtype is none that a store has.
        ContractError: a value is not finite in that dtype.
    """
    if not name or not name.isprintable():
        raise UsageError(
            f"imported features need a name, got {name!r}; give `name`, such as "
            "`name` i3d-kinetics, which becomes the backbone 'imported:i3d-kinetics'"
        )
    dtype = dtype or features.dtype.name
    if dtype not in DTYPES:
        raise UsageError(
            f"cubes of {dtype!r} cannot be imported as they are; give `dtype` float16 or float32"
        )
    videos = []
    for video in features.videos:
        digest = _digest(video, features.dtype, np.dtype(dtype))
        videos.append(replace(video, record={**video.record, "media_sha256": digest}))
    spec = Spec(
        backbone=f"imported:{name}",
        weights_sha256="0" * 64,
        preprocessing=_UNKNOWN_PREPROCESSING,
        sampling=sampling_of(set(features.timings)),
        diffs="none",
        precision="fp32",
        decoder=UNKNOWN,
        time_rule=0,
        pixel_rule=0,
    )
    header = StoreHeader(
        spec,
        features.layers,
        (new_source(""),),
        dtype=dtype,
        has_diffs=False,
        versions={package: version(package) for package in ("cubereel", "h5py", "numpy")},
    )
    return header, replace(features, videos=videos)


def _digest(video: ImportedVideo, source: np.dtype, target: np.dtype) -> str:
    """Return the SHA-256 of a video's cubes in C order, little-endian, before any cast."""
    digest = hashlib.sha256()
    for block in video.blocks():
        cubes = np.ascontiguousarray(block[ARRAY], source.newbyteorder("<"))
        _require_finite(cubes, target, video.row.video_id)
        digest.update(cubes.tobytes())
    return digest.hexdigest()


def _require_finite(cubes: np.ndarray, dtype: np.dtype, video_id: str) -> None:
    if not np.isfinite(cubes).all():
        raise ContractError(
            f"video {video_id!r} has values that are nan or infinite, and a store holds finite "
            "numbers; give it such, or leave the video out"
        )
    largest = float(np.abs(cubes).max())
    if largest > np.finfo(dtype).max:
        raise ContractError(
            f"video {video_id!r} has a value of {largest:g}, which {dtype} cannot hold; "
            "give `dtype` float32"
        )
