"""`cubereel store append`, `merge`, `subset`, `repack`: stores that are copies of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features_store.format.encodings import COMPACT, Compression, Dtype
from pipelines.cli.arguments import AsJson, StorePath
from pipelines.cli.expanding import expand_options
from pipelines.cli.show import print_json

if TYPE_CHECKING:
    from features_store.verbs.reshape import RepackOptions
    from features_store.verbs.transfer import OnVideos, TransferReport

Out = Annotated[Path, typer.Option(help="The new store; made, or extended where it was left.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (append, merge, subset, repack):
        app.command()(verb)


def append(
    path: Annotated[Path, typer.Argument(help="The store that grows.")],
    sources: Annotated[list[Path], typer.Argument(help="Stores of the same spec.")],
    as_json: AsJson = False,
) -> None:
    """Add the videos of other stores to a store; safe to run again."""
    from features_store.verbs.merge import append_stores

    with _progress("append") as on_videos:
        report = append_stores(path, sources, on_videos=on_videos)
    _show_transfer(report, as_json=as_json)


def merge(
    sources: Annotated[list[Path], typer.Argument(help="Stores of the same spec.")],
    out: Out,
    as_json: AsJson = False,
) -> None:
    """Join stores into a new one; safe to run again."""
    from features_store.verbs.merge import merge_stores

    with _progress("merge") as on_videos:
        report = merge_stores(sources, out, on_videos=on_videos)
    _show_transfer(report, as_json=as_json)


def subset(
    path: StorePath,
    out: Out,
    ids: Annotated[Path | None, typer.Option(help="Text file with a video id a line.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Labels to keep; repeat.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Groups to keep; repeat.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Splits to keep; repeat.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy some videos into a new store: those that meet every condition; safe to run again."""
    from features_store.errors import UsageError
    from features_store.verbs.reshape import subset_store

    try:
        lines = ids.read_text().splitlines() if ids is not None else []
    except (OSError, UnicodeDecodeError) as err:
        raise UsageError(f"the list of ids cannot be read: {err}") from err
    with _progress("subset") as on_videos:
        report = subset_store(
            path, out, ids=[line for line in lines if line], labels=label or (),
            groups=group or (), splits=split or (), on_videos=on_videos,
        )  # fmt: skip
    _show_transfer(report, as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class RepackFlags:
    """How a store is copied."""

    compact: Annotated[
        bool, typer.Option("--compact", help="Short for --dtype 8bit --compression zstd.")
    ] = False
    dtype: Annotated[Dtype | None, typer.Option(help="Of the cubes; as before if none.")] = None
    compression: Annotated[Compression | None, typer.Option(help="As before if none.")] = None
    layer: Annotated[Sequence[str], typer.Option(help="Layers to keep; repeat.")] = ()
    view: Annotated[Sequence[str], typer.Option(help="Views to keep; repeat.")] = ()
    drop_diff_cubes: Annotated[
        bool, typer.Option("--drop-diff-cubes", help="Leave out cubes of difference images.")
    ] = False
    shard_bytes: Annotated[int, typer.Option(help="Most bytes of a shard, before compression.")] = (
        2 * 2**30
    )

    def options(self) -> RepackOptions:
        """Return what they say; raise `UsageError` where two say the same."""
        from features_store.errors import UsageError
        from features_store.verbs.reshape import RepackOptions

        if self.compact and (self.dtype or self.compression):
            raise UsageError(
                "--compact says dtype and compression; leave --dtype and --compression"
            )
        dtype, compression = COMPACT if self.compact else (self.dtype, self.compression)
        return RepackOptions(
            dtype=dtype,
            compression=compression,
            layers=self.layer,
            views=self.view,
            drop_diff_cubes=self.drop_diff_cubes,
            shard_bytes=self.shard_bytes,
        )


@expand_options
def repack(path: StorePath, out: Out, options: RepackFlags, as_json: AsJson = False) -> None:
    """Copy a store, encoded otherwise or without some layers; safe to run again."""
    from features_store.verbs.reshape import repack_store

    wanted = options.options()
    with _progress("repack") as on_videos:
        report = repack_store(path, out, wanted, on_videos=on_videos)
    _show_transfer(report, as_json=as_json)


@contextmanager
def _progress(verb: str) -> Iterator[OnVideos]:
    from pipelines.progress import ProgressLog

    with ProgressLog(verb, total=0, unit="videos") as progress:
        yield progress.reach


def _show_transfer(report: TransferReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    typer.echo(
        f"{report.num_videos} videos ({report.num_frames} frames) in {report.num_shards} shards "
        f"added to {report.target}; {report.num_there_before} were there before"
    )
    if report.differing:
        typer.echo(
            f"its manifest.csv says otherwise of {len(report.differing)} videos and was kept; "
            f"first: {report.differing[0]}"
        )
