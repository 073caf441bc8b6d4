"""What `store.json` says of an extraction: its spec, and what is stored."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

from extract.backbones import Backbone
from extract.compute.computer import CubeComputer
from extract.video.decoders.names import DecoderName
from features_store.format.layout import DIFF_GRID
from features_store.metadata import StoreHeader
from features_store.sources import new_source, source_for
from features_store.spec import Sampling, Spec
from pipelines.extraction.options import StoreOptions
from pipelines.machine.choices import AskedPrecision


def precision_for(stored: StoreHeader | None, options: StoreOptions) -> AskedPrecision:
    """Return the precision to compute at: of a store that is extended, ``auto`` is the store's.

    Otherwise two kinds of machines could not extend one store.
    """
    if stored is not None and options.precision == "auto":
        return stored.spec.precision
    return options.precision


def new_header(
    computer: CubeComputer,
    network: Backbone,
    options: StoreOptions,
    *,
    root: Path,
    stored: StoreHeader | None,
) -> StoreHeader:
    """Return the header of the store that an extraction makes, or with which it extends one.

    Args:
        stored: of the store that is there.

    Raises:
        StoreError: it says something else of the videos below that root.
    """
    source = new_source(
        str(root), licence=options.licence, origin=options.origin, citation=options.citation
    )
    return StoreHeader(
        spec=build_spec(computer, network, options.sampling, options.decoder),
        layers=network.layers,
        sources=(source if stored is None else source_for(stored.sources, source),),
        views=options.chosen_views,
        has_diff_cubes=options.has_diff_cubes,
        dtype=options.dtype,
        compression=options.compression,
        versions=library_versions(),
    )


def build_spec(
    computer: CubeComputer, network: Backbone, sampling: Sampling, decoder: DecoderName
) -> Spec:
    """Return all that computes a number."""
    return Spec(
        backbone=network.name,
        weights_sha256=network.weights_sha256,
        preprocessing=computer.preprocessing,
        sampling=sampling,
        diffs=f"frame minus previous {'decoded' if sampling.is_sparse else 'kept'} frame, "
        f"RGB 0..1, area-averaged to {DIFF_GRID}",
        precision=computer.precision,
        decoder=decoder,
    )


def library_versions() -> dict[str, str]:
    """Return the versions that wrote a store; information, not part of its spec."""
    names = ("cubereel", "torch", "torchvision", "timm", "av", "h5py", "numpy")
    return {name: version(name) for name in names} | {"python": platform.python_version()}
