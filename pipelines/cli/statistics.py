"""`cubereel store statistics`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from features_store.paths import NEW_FILE
from pipelines.cli.arguments import AsJson, StorePath
from pipelines.cli.show import print_result

if TYPE_CHECKING:
    from pipelines.statistics.result import StoreStatistics


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(statistics)


def statistics(
    path: StorePath,
    layer: Annotated[str | None, typer.Option(help="The top one if none.")] = None,
    view: Annotated[str, typer.Option(help="Which view of the picture.")] = "center",
    split: Annotated[
        list[str] | None, typer.Option(help="Videos of this split; repeat. All if none.")
    ] = None,
    pca: Annotated[int | None, typer.Option(help="Principal components to find.")] = None,
    pca_of: Annotated[
        Literal["cells", "frames"], typer.Option(help="Of every cell, or of the mean of a frame's.")
    ] = "cells",
    out: Annotated[
        Path | None,
        typer.Option(help="A .safetensors file for all numbers.", **NEW_FILE.checked),
    ] = None,
    memory: Annotated[
        str, typer.Option(help="What this process may take, such as 500MB or 8GB.")
    ] = "2GB",
    as_json: AsJson = False,
) -> None:
    """Find mean and variance of every channel, and principal components, in bounded memory."""
    from pipelines.progress import ProgressLog
    from pipelines.statistics.memory import parse_memory
    from pipelines.statistics.result import check_out, save_statistics
    from pipelines.statistics.run import store_statistics

    memory_bytes = parse_memory(memory)
    if out is not None:
        check_out(out)
    with ProgressLog("statistics", total=0, unit="frames") as progress:
        found = store_statistics(
            path, layer=layer, view=view, splits=split or (), pca=pca, pca_of=pca_of,
            memory_bytes=memory_bytes, on_frames=progress.reach,
        )  # fmt: skip
    if out is not None:
        save_statistics(out, found)
    print_result(_document(found), _lines(found, out), as_json=as_json)


def _document(found: StoreStatistics) -> dict[str, Any]:
    """Return what is printed as JSON: all but the components, which are in the file."""
    document = {**vars(found.of), "mean": found.mean.tolist(), "variance": found.variance.tolist()}
    if (pca := found.pca) is not None:
        document["pca"] = {
            "of": pca.of, "num_rows": pca.num_rows, "explained_share": pca.explained_share,
            "explained_variance": pca.explained_variance.tolist(),
        }  # fmt: skip
    return document


def _lines(found: StoreStatistics, out: Path | None) -> Iterator[str]:
    of = found.of
    yield f"{of.num_videos} videos, {of.num_frames} frames; layer {of.layer}, view {of.view}"
    for name, values in (("mean", found.mean), ("variance", found.variance)):
        yield (
            f"{name:<9} {values.mean():.6g} ({values.min():.6g} to {values.max():.6g}) "
            f"over {len(values)} channels"
        )
    if (pca := found.pca) is not None:
        yield (
            f"{len(pca.components)} components of {pca.num_rows} {pca.of} hold "
            f"{pca.explained_share:.1%} of the variance"
        )
    yield f"written to {out}" if out is not None else "not written; give --out"
