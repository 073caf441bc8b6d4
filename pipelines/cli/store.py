"""`cubereel store …`: look into a store, check it, mend it, join, cut and convert stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features_store.format.encodings import Compression, Dtype
from pipelines.cli.expanding import expand_options
from pipelines.cli.show import format_bytes, print_json, print_table

if TYPE_CHECKING:
    from features_store.store import Store
    from features_store.verbs.reshape import RepackOptions
    from features_store.verbs.transfer import OnVideos, TransferReport

app = typer.Typer(help="Check, mend, join, cut, convert and compare stores.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
StorePath = Annotated[Path, typer.Argument(help="A store.")]
Out = Annotated[Path, typer.Option(help="The new store; made, or extended where it was left.")]


@app.command()
def info(path: StorePath, as_json: AsJson = False) -> None:
    """Say where the videos are from and what is stored of them."""
    from features_store.verbs.info import store_info

    document = store_info(path)
    if as_json:
        print_json(document)
        return
    width = max(map(len, document)) + 2
    for name, value in document.items():
        shown = format_bytes(value) if name == "bytes" else value
        typer.echo(f"{name:<{width}}{shown}")


@app.command()
def ls(path: StorePath, as_json: AsJson = False) -> None:
    """List the videos of a store."""
    from features_store.store import Store

    with Store(path) as store:
        store.check_shards()
        if as_json:
            print_json(list(_listed(store)))
            return
        width = max(store.index.ids.dtype.itemsize, len("video_id"))
        typer.echo(f"{'video_id':<{width}}  frames    seconds  status   label")
        for video in _listed(store):
            numbers = f"{video['frames']:>6}  {video['seconds']:>9}"
            said = f"{video['status']:<7}  {video['label']}"
            typer.echo(f"{video['video_id']:<{width}}  {numbers}  {said}".rstrip())


def _listed(store: Store) -> Iterator[dict[str, Any]]:
    manifest = store.manifest
    for record in store.records():
        yield {
            "video_id": record.id,
            "frames": record.length,
            "seconds": round(record.duration_seconds, 3),
            "status": record.status,
            "label": manifest[record.id].label if record.id in manifest else "",
        }


@app.command()
def verify(
    path: StorePath,
    full: Annotated[bool, typer.Option("--full", help="Read every byte.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check that a store is what was written; exit 3 when it is not."""
    from features_store.errors import DamageError
    from features_store.verbs.verify import verify_store

    report = verify_store(path, full=full)
    if as_json:
        print_json(report)
    else:
        how = "every byte read" if full else "tables and sizes read; --full reads every byte"
        typer.echo(
            f"{report.num_shards} shards, {report.num_videos} videos, {report.num_frames} frames "
            f"({how})"
        )
        for name in report.unfinished:
            typer.echo(f"unfinished: {name}; the next 'cubereel extract' salvages it")
        for problem in report.problems:
            typer.echo(f"damaged: {problem}")
    if report.problems:
        first = report.problems[0]
        raise DamageError(
            f"{path} is damaged in {len(report.problems)} places; first: {first}. "
            "'cubereel store repair' keeps what is sound"
        )


@app.command()
def repair(path: StorePath, as_json: AsJson = False) -> None:
    """Keep what is sound, set aside what is damaged, say which videos to extract again."""
    from features_store.verbs.repair import repair_store

    report = repair_store(path)
    if as_json:
        print_json(report)
        return
    for shard, problems in report.damaged.items():
        for problem in problems:
            typer.echo(f"damaged: {problem}")
        typer.echo(f"set aside: {path}/damaged/{shard}")
    for shard in report.salvaged:
        typer.echo(f"salvaged: {shard}")
    for video_id in report.lost:
        typer.echo(f"lost: {video_id}")
    typer.echo(
        f"{report.num_videos} sound videos; {len(report.lost)} lost"
        + ("; run 'cubereel extract' again to refill them" if report.lost else "")
    )


@app.command()
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


@app.command()
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


@app.command()
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
        from features_store.verbs.reshape import COMPACT, RepackOptions

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


@app.command("repack")
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


@app.command()
def diff(
    a: StorePath,
    b: Annotated[Path, typer.Argument(help="Another store.")],
    as_json: AsJson = False,
) -> None:
    """Compare two stores video by video; exit 3 when they are not the same features."""
    from features_store.errors import ContractError
    from features_store.store import Store
    from features_store.verbs.diff import diff_stores

    with Store(a) as first, Store(b) as second:
        result = diff_stores(first, second)
    if as_json:
        print_json(result)
    else:
        for name, ours, theirs in result.spec:
            typer.echo(f"spec  {name}: {ours!r} in A, {theirs!r} in B")
        for which, ids in (("A", result.only_in_a), ("B", result.only_in_b)):
            for video_id in ids:
                typer.echo(f"only in {which}  {video_id}")
        print_table(
            ["video_id", "frames", "worst cosine", "mean cosine", "max abs", "note"],
            [
                [
                    video.video_id, str(video.num_frames), f"{video.worst_cosine:.6f}",
                    f"{video.mean_cosine:.6f}", f"{video.max_abs:g}", video.note,
                ]
                for video in result.videos
            ],
        )  # fmt: skip
        differing = sum(not video.equal for video in result.videos)
        verdict = "identical" if result.identical else "equal" if result.equal else "different"
        typer.echo(f"{verdict}: {len(result.videos)} videos compared, {differing} differ")
    if not result.equal:
        raise ContractError(f"{a} and {b} do not hold the same features")
