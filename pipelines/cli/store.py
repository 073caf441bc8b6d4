"""`cubereel store …`: look into a store, check it, mend it, say whose its videos are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.arguments import AsJson, StorePath
from pipelines.cli.show import format_bytes, print_json, print_table

if TYPE_CHECKING:
    from features_store.store import Store

app = typer.Typer(help="Check, mend, join, cut, convert and compare stores.", no_args_is_help=True)
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
        if (path / "damaged" / shard).exists():
            typer.echo(f"set aside: {path}/damaged/{shard}")
    for shard in report.adopted:
        typer.echo(f"adopted: {shard}, which the catalogue did not list")
    for shard in report.salvaged:
        typer.echo(f"salvaged: {shard}")
    for video_id in report.lost:
        typer.echo(f"lost: {video_id}")
    typer.echo(
        f"{report.num_videos} sound videos; {len(report.lost)} lost"
        + ("; run 'cubereel extract' again to refill them" if report.lost else "")
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


@app.command()
def describe(
    path: StorePath,
    source: Annotated[
        str | None, typer.Option(help="Of these videos alone; see 'cubereel store info'.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the videos.")] = None,
    origin: Annotated[str | None, typer.Option(help="Where the videos are from.")] = None,
    citation: Annotated[str | None, typer.Option(help="What users are to cite.")] = None,
) -> None:
    """Say on what terms the videos of a store may be used; no feature changes."""
    from features_store.verbs.describe import describe_store

    header = describe_store(path, source=source, licence=licence, origin=origin, citation=citation)
    for each in header.sources:
        said = f"{each.licence or 'not said'}; {each.origin or 'not said'}"
        typer.echo(f"{each.id}  {each.root}  {said}; {each.citation or 'not said'}")
