"""`cubereel store …`: what is in a store, is it sound, is it the same as another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.show import format_bytes, print_json, print_table

app = typer.Typer(help="Look into a store, check it, compare it.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
StorePath = Annotated[Path, typer.Argument(help="A store.")]


@app.command()
def info(path: StorePath, as_json: AsJson = False) -> None:
    """Say where the videos are from and what is stored of them."""
    from features_store.info import store_info

    document = store_info(path)
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        shown = format_bytes(value) if name == "bytes" else value
        typer.echo(f"{name:<16}{shown}")


@app.command()
def ls(path: StorePath, as_json: AsJson = False) -> None:
    """List the videos of a store."""
    from features_store.store import Store

    with Store(path) as store:
        manifest = store.manifest
        rows = [
            {
                "video_id": record.id,
                "frames": record.length,
                "seconds": round(record.duration_seconds, 3),
                "label": manifest[record.id].label if record.id in manifest else "",
            }
            for record in store.records()
        ]
    if as_json:
        print_json(rows)
    else:
        print_table(
            list(rows[0]) if rows else ["video_id"], [[*map(str, r.values())] for r in rows]
        )


@app.command()
def verify(
    path: StorePath,
    full: Annotated[bool, typer.Option("--full", help="Read every byte.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check that a store is what was written; exit 3 when it is not."""
    from features_store.errors import DamageError
    from features_store.verify import verify_store

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
        raise DamageError(f"{path} is damaged in {len(report.problems)} places; first: {first}")


@app.command()
def diff(
    a: StorePath, b: Annotated[Path, typer.Argument(help="Another store.")], as_json: AsJson = False
) -> None:
    """Compare two stores video by video; exit 3 when they are not the same features."""
    from features_store.diff import diff_stores
    from features_store.errors import ContractError
    from features_store.store import Store

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
        differing = [video for video in result.videos if not video.equal]
        for video in differing:
            what = video.note or f"worst cosine {video.worst_cosine:.6f}"
            typer.echo(f"differs  {video.video_id}  {what}  max abs {video.max_abs:g}")
        verdict = "identical" if result.identical else "equal" if result.equal else "different"
        typer.echo(f"{verdict}: {len(result.videos)} videos compared, {len(differing)} differ")
    if not result.equal:
        raise ContractError(f"{a} and {b} do not hold the same features")
