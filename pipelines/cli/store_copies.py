"""`cubereel store append`, `merge`, `subset`, `repack`: stores that are copies of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features_store.paths import ID_LIST, STORE
from features_store.verbs.options import RepackOptions
from pipelines.cli.arguments import AsJson, NewStore, StorePath, StorePaths
from pipelines.cli.expanding import expand_options
from pipelines.cli.show import print_result

if TYPE_CHECKING:
    from features_store.verbs.transfer import OnVideos, TransferReport

MAX_IDS_BYTES = 2**26


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (append, merge, subset, repack):
        app.command()(verb)


def append(
    path: Annotated[Path, typer.Argument(help="The store that grows.", **STORE.checked)],
    sources: StorePaths,
    as_json: AsJson = False,
) -> None:
    """Add the videos of other stores to a store; safe to run again."""
    from features_store.verbs.merge import append_stores

    _copy("append", lambda done: append_stores(path, sources, on_videos=done), as_json=as_json)


def merge(
    sources: StorePaths,
    out: NewStore,
    as_json: AsJson = False,
) -> None:
    """Join stores into a new one; safe to run again."""
    from features_store.verbs.merge import merge_stores

    _copy("merge", lambda done: merge_stores(sources, out, on_videos=done), as_json=as_json)


def subset(
    path: StorePath,
    out: NewStore,
    ids: Annotated[
        Path | None,
        typer.Option(help="Text file with a video id a line.", **ID_LIST.checked),
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="Labels to keep; repeat.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Groups to keep; repeat.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Splits to keep; repeat.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy some videos into a new store: those that meet every condition; safe to run again."""
    from features_store.text_files import read_text
    from features_store.verbs.reshape import subset_store

    text = "" if ids is None else read_text(ids, what="list of ids", most_bytes=MAX_IDS_BYTES)
    lines = text.split("\n")

    def copy(on_videos: OnVideos) -> TransferReport:
        return subset_store(
            path, out, ids=[line for line in lines if line], labels=label or (),
            groups=group or (), splits=split or (), on_videos=on_videos,
        )  # fmt: skip

    _copy("subset", copy, as_json=as_json)


@expand_options
def repack(path: StorePath, out: NewStore, options: RepackOptions, as_json: AsJson = False) -> None:
    """Copy a store, encoded otherwise or without some layers; safe to run again."""
    from features_store.verbs.reshape import repack_store

    _copy("repack", lambda done: repack_store(path, out, options, on_videos=done), as_json=as_json)


def _copy(verb: str, copy: Callable[[OnVideos], TransferReport], *, as_json: bool) -> None:
    """Run a verb that reports its progress, and print what it did."""
    from pipelines.progress import ProgressLog

    with ProgressLog(verb, total=0, unit="videos") as progress:
        report = copy(progress.reach)
    print_result(report, _lines(report), as_json=as_json)


def _lines(report: TransferReport) -> Iterator[str]:
    yield (
        f"{report.num_videos} videos ({report.num_frames} frames) in {report.num_shards} shards "
        f"added to {report.target}; {report.num_there_before} were there before"
    )
    if report.num_repeated:
        yield f"{report.num_repeated} videos stand in several of these stores, and once in this one"
    if report.differing:
        yield (
            f"its manifest.csv says otherwise of {len(report.differing)} videos and was kept; "
            f"first: {report.differing[0]}; 'cubereel manifest apply SOURCE {report.target}' takes "
            "over what a store says"
        )
