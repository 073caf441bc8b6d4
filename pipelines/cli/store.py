"""`cubereel store …`: look into a store, check it, mend it, say whose its videos are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len

from features_store.paths import STORE
from pipelines.cli.arguments import AsJson, StorePath
from pipelines.cli.show import format_bytes, padded, print_result, table_lines

if TYPE_CHECKING:
    from features_store.store import Store
    from features_store.verbs.diff import StoreDiff
    from features_store.verbs.repair import RepairReport

app = typer.Typer(help="Check, mend, join, cut, convert and compare stores.", no_args_is_help=True)


@app.command()
def info(path: StorePath, as_json: AsJson = False) -> None:
    """Say where the videos are from and what is stored of them."""
    from features_store.verbs.info import store_info

    document = store_info(path)
    width = max(map(len, document)) + 2
    shown = document | {"bytes": format_bytes(document["bytes"])}
    lines = (f"{name:<{width}}{value}" for name, value in shown.items())
    print_result(document, lines, as_json=as_json)


@app.command()
def ls(path: StorePath, as_json: AsJson = False) -> None:
    """List the videos of a store."""
    from features_store.store import Store

    with Store(path) as store:
        store.check_shards()
        print_result(_listed(store), _rows(store), as_json=as_json)


def _rows(store: Store) -> Iterator[str]:
    width = max(map(cell_len, ["video_id", *store.ids]))
    yield f"{padded('video_id', width)}  frames    seconds  status   label"
    for video in _listed(store):
        numbers = f"{video['frames']:>6}  {video['seconds']:>9}"
        said = f"{video['status']:<7}  {video['label']}"
        yield f"{padded(video['video_id'], width)}  {numbers}  {said}".rstrip()


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
    how = "every byte read" if full else "tables and sizes read; --full reads every byte"
    found = f"{report.num_shards} shards, {report.num_videos} videos, {report.num_frames} frames"
    lines = [
        f"{found} ({how})",
        *(f"unfinished: {n}; the next 'cubereel extract' salvages it" for n in report.unfinished),
        *(f"damaged: {problem}" for problem in report.problems),
    ]
    print_result(report, lines, as_json=as_json)
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
    print_result(report, _repaired(path, report), as_json=as_json)


def _repaired(path: Path, report: RepairReport) -> Iterator[str]:
    for shard, problems in report.damaged.items():
        yield from (f"damaged: {problem}" for problem in problems)
        if (path / "damaged" / shard).exists():
            yield f"set aside: {path}/damaged/{shard}"
    yield from (f"adopted: {s}, which the catalogue did not list" for s in report.adopted)
    yield from (f"salvaged: {shard}" for shard in report.salvaged)
    yield from (f"lost: {video_id}" for video_id in report.lost)
    again = "; run 'cubereel extract' again to refill them" if report.lost else ""
    yield f"{report.num_videos} sound videos; {len(report.lost)} lost{again}"


@app.command()
def diff(
    a: StorePath,
    b: Annotated[Path, typer.Argument(help="Another store.", **STORE.checked)],
    as_json: AsJson = False,
) -> None:
    """Compare two stores video by video; exit 3 when they are not the same features."""
    from features_store.errors import ContractError
    from features_store.store import Store
    from features_store.verbs.diff import diff_stores

    with Store(a) as first, Store(b) as second:
        result = diff_stores(first, second)
    print_result(result, _differences(result), as_json=as_json)
    if not result.equal:
        raise ContractError(f"{a} and {b} do not hold the same features")


def _differences(result: StoreDiff) -> Iterator[str]:
    """Yield what came of it, then what differs: nothing of two stores that are the same."""
    differing = [video for video in result.videos if not video.equal]
    verdict = "identical" if result.identical else "equal" if result.equal else "different"
    yield f"{verdict}: {len(result.videos)} videos compared, {len(differing)} differ"
    if result.videos and not result.identical:
        worst = min(result.videos, key=lambda video: video.worst_cosine)
        largest = max(video.max_abs for video in result.videos)
        yield (
            f"worst cosine {worst.worst_cosine:.6f} ({worst.video_id}), largest difference "
            f"{largest:g}"
        )
    for name, ours, theirs in result.spec:
        yield f"spec  {name}: {ours!r} in A, {theirs!r} in B"
    of_a, of_b = map(set, result.contents)
    for which, names in (
        ("A", [*sorted(of_a - of_b), *result.only_in_a]),
        ("B", [*sorted(of_b - of_a), *result.only_in_b]),
    ):
        yield from (f"only in {which}  {name}" for name in names)
    if differing:
        yield from table_lines(
            ["video_id", "frames", "worst cosine", "mean cosine", "max abs", "note"],
            [
                [
                    video.video_id, str(video.num_frames), f"{video.worst_cosine:.6f}",
                    f"{video.mean_cosine:.6f}", f"{video.max_abs:g}", video.note,
                ]
                for video in differing
            ],
        )  # fmt: skip


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
