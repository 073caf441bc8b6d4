"""What statistics say, and the file that keeps it: arrays as safetensors, the rest as its text.

A reader needs no pickle. The file says of which store, revision, layer and view it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from features_store.errors import ContractError, UsageError
from features_store.format.inputs import open_regular, parse_json
from features_store.format.outputs import write_atomically
from features_store.plain import from_plain, to_plain
from pipelines.statistics.memory import PcaOf
from pipelines.statistics.pca import PcaBasis

MAX_BYTES = 2**29
SUFFIX = ".safetensors"
KEY = "cubereel_statistics"  # of the text in the file's metadata


@dataclass(frozen=True)
class StatisticsOf:
    """What the statistics are of.

    Attributes:
        splits: of the manifest, of whose videos; none for all videos.
        num_rows: cells that mean and variance are of.
    """

    spec_digest: str
    revision: str
    layer: str
    view: str
    splits: tuple[str, ...]
    num_videos: int
    num_frames: int
    num_rows: int


@dataclass(frozen=True)
class StoreStatistics:
    """Mean and variance (D,) of every channel over frames and cells, float64; maybe components."""

    of: StatisticsOf
    mean: np.ndarray
    variance: np.ndarray
    pca: PcaBasis | None = None


def check_out(path: Path) -> None:
    """Raise `UsageError` unless a file of statistics can be written there."""
    if path.suffix != SUFFIX:
        raise UsageError(f"`out` must end in {SUFFIX}, got {str(path)!r}")
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"`out` must be a file in a folder that is there, got {str(path)!r}")


def save_statistics(path: Path, statistics: StoreStatistics) -> None:
    """Write a file, whole or not at all."""
    check_out(path)
    arrays = {"mean": statistics.mean, "variance": statistics.variance}
    said: _PcaSaid | None = None
    if (pca := statistics.pca) is not None:
        arrays |= {f"pca.{name}": getattr(pca, name) for name in _PCA_ARRAYS}
        said = _PcaSaid(pca.of, pca.explained_share, pca.num_rows)
    document = to_plain(_Document(1, statistics.of, said))
    write_atomically(path, save(arrays, metadata={KEY: json.dumps(document)}))


def load_statistics(path: Path) -> StoreStatistics:
    """Read a file that `save_statistics` wrote.

    Raises:
        ContractError: it is not there, or is no such file.
    """
    try:
        open_regular(path, most_bytes=MAX_BYTES).close()
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY, "")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        document = from_plain(_Document, parse_json(text.encode()))
        pca = None
        if document.pca is not None:
            found = {name: arrays[f"pca.{name}"] for name in _PCA_ARRAYS}
            pca = PcaBasis(**found, **vars(document.pca))
        return StoreStatistics(document.of, arrays["mean"], arrays["variance"], pca)
    except (OSError, SafetensorError, KeyError, ValueError) as err:
        raise ContractError(
            f"{path} is no file that 'cubereel store statistics' wrote: {err}; make it again"
        ) from err


_PCA_ARRAYS = ("components", "explained_variance", "mean")


@dataclass(frozen=True)
class _PcaSaid:
    """What stands of `PcaBasis` beside its arrays."""

    of: PcaOf
    explained_share: float
    num_rows: int


@dataclass(frozen=True)
class _Document:
    """The text in the file's metadata."""

    format_version: Literal[1]
    of: StatisticsOf
    pca: _PcaSaid | None
