"""`cubereel store export` and `cubereel store import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from features_store.exchange.formats.registry import FORMATS
from features_store.exchange.options import ImportOptions
from features_store.paths import FEATURES, NEW_FOLDER
from pipelines.cli.arguments import AsJson, NewStore, StorePath
from pipelines.cli.expanding import expand_options
from pipelines.cli.show import print_result

_NAMES = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
Kind = Annotated[str, typer.Option("--format", help=_NAMES)]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("export")(export)
    app.command("import")(expand_options(import_))


def export(
    store: StorePath,
    out: Annotated[
        Path,
        typer.Option(help="A new folder, or one that a run was killed in.", **NEW_FOLDER.checked),
    ],
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

    report = export_store(store, out, kind=kind, layer=layer, video=video, pool=pool)
    done = (
        f"{report.num_videos} videos, {report.num_frames} frames are in {report.folder} "
        f"({report.kind}); {report.num_files_written} files written now"
    )
    print_result(report, [done, *_notes(report.notes)], as_json=as_json)


def import_(
    source: Annotated[
        Path, typer.Argument(help="The folder or file with features.", **FEATURES.checked)
    ],
    out: NewStore,
    kind: Kind,
    options: ImportOptions,
    as_json: AsJson = False,
) -> None:
    """Make a store of features that something else computed. Safe to run again."""
    from features_store.exchange import import_features

    report = import_features(source, out, kind=kind, options=options)
    done = (
        f"{report.num_videos} videos are in {report.store}: {report.num_imported} imported now "
        f"({report.num_frames} frames), {report.num_done_before} before"
    )
    print_result(report, [done, *_notes(report.warnings)], as_json=as_json)


def _notes(texts: list[str]) -> list[str]:
    return [f"note: {text}" for text in texts]
