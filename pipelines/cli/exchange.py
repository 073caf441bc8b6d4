"""`cubereel store export` and `cubereel store import`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from features_store.exchange.formats.registry import FORMATS
from features_store.exchange.options import ImportOptions
from pipelines.cli.arguments import AsJson
from pipelines.cli.expanding import expand_options
from pipelines.cli.show import print_json

_NAMES = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
Kind = Annotated[str, typer.Option("--format", help=_NAMES)]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("export")(export)
    app.command("import")(expand_options(import_))


def export(
    store: Annotated[Path, typer.Argument(help="A store.")],
    folder: Annotated[Path, typer.Argument(help="A new folder, or one that a run was killed in.")],
    kind: Kind,
    layer: Annotated[
        str | None, typer.Option(help="The layer to export. The top one if none; folder: all.")
    ] = None,
    video: Annotated[
        list[str] | None, typer.Option(help="Id of a video; repeat for several. All if none.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="mean or max over cells, where a format has none.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a store's videos in a layout that other programs read. Safe to run again."""
    from features_store.exchange import export_store

    report = export_store(store, folder, kind=kind, layer=layer, video=video, pool=pool)
    if as_json:
        print_json(report)
    else:
        typer.echo(
            f"{report.num_videos} videos, {report.num_frames} frames are in {report.folder} "
            f"({report.kind}); {report.num_files_written} files written now"
        )
        for note in report.notes:
            typer.echo(f"note: {note}")


@dataclass(frozen=True, kw_only=True)
class ImportFlags(ImportOptions):
    """The same options with their flags."""

    name: Annotated[
        str, typer.Option(help="What computed them, such as i3d-kinetics; not for folder.")
    ] = ""
    dtype: Annotated[
        str | None, typer.Option(help="float16 or float32; that of the source if none.")
    ] = None
    fps: Annotated[float | None, typer.Option(help="Frames a second of the videos.")] = None
    feat_stride: Annotated[
        float | None, typer.Option(help="Frames from one row of features to the next.")
    ] = None
    feat_num_frames: Annotated[
        int | None, typer.Option(help="Frames behind a row of features [1].")
    ] = None
    grid_size: Annotated[
        int | None, typer.Option(help="sharma: K of the K×K cells of a row [7].")
    ] = None
    annotations: Annotated[
        Path | None, typer.Option(help="npy, npz: JSON with fps, stride, labels of videos.")
    ] = None
    licence: Annotated[str, typer.Option(help="Licence of the videos, kept in the store.")] = ""
    origin: Annotated[str, typer.Option(help="Where videos and features are from.")] = ""
    citation: Annotated[str, typer.Option(help="What users of the store are to cite.")] = ""


def import_(
    source: Annotated[Path, typer.Argument(help="The folder or file with features.")],
    out: Annotated[Path, typer.Option(help="The store; made, or extended where it was left.")],
    kind: Kind,
    options: ImportFlags,
    as_json: AsJson = False,
) -> None:
    """Make a store of features that something else computed. Safe to run again."""
    from features_store.exchange import import_features

    report = import_features(source, out, kind=kind, options=options)
    if as_json:
        print_json(report)
        return
    typer.echo(
        f"{report.num_videos} videos are in {report.store}: {report.num_imported} imported now "
        f"({report.num_frames} frames), {report.num_done_before} before"
    )
    for warning in report.warnings:
        typer.echo(f"note: {warning}")
