"""`cubereel store statistics` as one function: what the channels of a store are like."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features_store.errors import UsageError
from features_store.format.disk import write_atomically
from pipelines.statistics.arrays import store_cubes
from pipelines.statistics.moments import channel_moments
from pipelines.statistics.pca import fit_components

MEMORY_BYTES = 2**30


@dataclass(frozen=True)
class StatisticsReport:
    """What was found.

    Attributes:
        frames, cells: that it is of.
        mean, variance: of each channel (D,).
        explained: share of the variance that each component explains; empty without `pca`.
    """

    store: str
    spec_digest: str
    revision: str
    layer: str
    view: str
    split: str
    frames: int
    cells: int
    mean: list[float]
    variance: list[float]
    explained: list[float]
    out: str


def store_statistics(
    store: str | Path,
    *,
    layer: str | None = None,
    view: str = "center",
    split: str | None = None,
    pca: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
    out: Path | None = None,
) -> StatisticsReport:
    """Return mean and variance of each channel, and principal components of the cells.

    Args:
        pca: number of components; None fits none.
        memory_bytes: that fitting components may take.
        out: a safetensors file for ``mean``, ``variance``, ``components`` and
            ``explained_variance``, with what they are of.

    Raises:
        CubereelError: one of its children.
    """
    if out is not None and out.suffix != ".safetensors":
        raise UsageError(f"`out` must end in .safetensors, got {str(out)!r}")
    cubes = store_cubes(store, layer=layer, view=view, split=split)
    moments = channel_moments(cubes)
    arrays = {"mean": moments.mean, "variance": moments.variance}
    explained: list[float] = []
    if pca is not None:
        fitted = fit_components(cubes, pca, memory_bytes=memory_bytes)
        arrays |= {"components": fitted.components, "explained_variance": fitted.variance}
        total = float(moments.variance.sum())
        explained = [float(each) / total if total else 0.0 for each in fitted.variance]
    report = StatisticsReport(
        cubes.store, cubes.spec_digest, cubes.revision, cubes.layer, cubes.view, split or "",
        cubes.num_frames, moments.count, moments.mean.tolist(), moments.variance.tolist(),
        explained, "" if out is None else str(out),
    )  # fmt: skip
    if out is not None:
        from safetensors.numpy import save

        names = ("spec_digest", "revision", "layer", "view", "split", "frames", "cells")
        said = {name: str(getattr(report, name)) for name in names}
        whole = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
        write_atomically(out, save(whole, metadata=said))
    return report
