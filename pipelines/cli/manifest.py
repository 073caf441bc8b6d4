"""`cubereel manifest …`: is it right, which videos are where, do its splits leak."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features_store.paths import FOLDER, MANIFEST, NEW_FILE
from pipelines.cli.arguments import AsJson, StorePath
from pipelines.cli.show import print_json, print_table

if TYPE_CHECKING:
    from pipelines.manifests.apply import ApplyReport
    from pipelines.manifests.counts import Tally
    from pipelines.manifests.splits import SideCounts

app = typer.Typer(
    help="Make a manifest, check it, split it, count what it says.", no_args_is_help=True
)
MultiLabel = Annotated[
    bool, typer.Option("--multi-label", help="As of 'cubereel train': labels such as 'sit;talk'.")
]
ManifestPath = Annotated[
    Path,
    typer.Argument(
        help="A manifest CSV, a folder with a manifest.csv, or a store.", **MANIFEST.checked
    ),
]


@app.command()
def make(
    folder: Annotated[Path, typer.Argument(help="A folder of class folders.", **FOLDER.checked)],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The CSV, a new file; else manifest.csv in the folder.", **NEW_FILE.checked
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the manifest of a folder of class folders, for you to fill in groups and splits."""
    from pipelines.manifests.make import make as run

    report = run(folder, out=out)
    if as_json:
        print_json(report)
        return
    for note in report.notes:
        typer.echo(note, err=True)
    classes = ", ".join(f"{_NAMES.get(name, name)} {n}" for name, n in report.labels.items())
    typer.echo(f"{report.num_videos} videos are in {report.manifest}: {classes}")


@app.command()
def apply(
    source: Annotated[
        Path,
        typer.Argument(
            help="What says it anew: a manifest CSV, a folder, or a store.", **MANIFEST.checked
        ),
    ],
    store: StorePath,
    root: Annotated[
        Path | None,
        typer.Option(help="What ids are relative to, as of 'cubereel extract'.", **FOLDER.checked),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Change the store's manifest.csv.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a new manifest says otherwise of a store's videos; with --write take it over."""
    from pipelines.manifests.apply import apply as run

    report = run(source, store, root=root, write=write)
    if as_json:
        print_json(report)
        return
    for line in _summary(report):
        typer.echo(line)
    if report.changes:
        rows = [[each.video_id, each.column, each.was, each.becomes] for each in report.changes]
        print_table(["video_id", "column", "was", "becomes"], rows)
        typer.echo("written" if report.written else "not written; give --write")


def _summary(report: ApplyReport) -> Iterator[str]:
    num_videos = len({each.video_id for each in report.changes})
    of_columns = Counter(each.column for each in report.changes)
    said = ", ".join(f"{name} of {count}" for name, count in of_columns.items())
    yield (
        f"{num_videos} of {report.num_rows} videos change in {report.manifest}"
        + (f" ({said})" if said else "")
        + f"; looked at: {', '.join(report.columns) or 'no column'}"
    )
    if report.num_not_said:
        yield f"{report.num_not_said} videos of the store have no row and stay as they are"
    if report.not_stored:
        first = report.not_stored[0]
        yield f"{len(report.not_stored)} rows are of no video of the store; first: {first}"


@app.command()
def validate(path: ManifestPath, as_json: AsJson = False) -> None:
    """Check every line, and that videos are where it says; exit 3 when something is wrong."""
    from features_store.errors import ContractError
    from pipelines.manifests.check import validate as run

    report = run(path)
    if as_json:
        print_json(report)
    else:
        for problem in report.problems:
            typer.echo(
                f"line {problem.line}: {problem.message}" if problem.line else problem.message
            )
        for doubt in report.doubts:
            typer.echo(f"perhaps a slip: {doubt}")
        unsaid = ", ".join(f"{count} without {name}" for name, count in report.unsaid.items())
        typer.echo(f"{report.num_rows} rows, {len(report.problems)} problems ({unsaid})")
    if report.problems:
        raise ContractError(f"{report.manifest} has {len(report.problems)} problems")


@app.command()
def split(
    path: ManifestPath,
    test: Annotated[float, typer.Option(help="Share of the videos that are for testing.")],
    validation: Annotated[
        float, typer.Option(help="Share for validation; by default 'train' takes some of train.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another split.")] = 0,
    write: Annotated[bool, typer.Option("--write", help="Fill the column 'split'.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write even where the column says something.")
    ] = False,
    multi_label: MultiLabel = False,
    as_json: AsJson = False,
) -> None:
    """Choose test videos: no group, file or content on two sides, classes spread evenly."""
    from pipelines.manifests.splits import split as run

    report = run(
        path, test=test, validation=validation, seed=seed, write=write, replace=replace,
        multi_label=multi_label,
    )  # fmt: skip
    if as_json:
        print_json(report)
        return
    _print_sides(report.sides)
    done = "written" if report.written else "not written; give --write"
    typer.echo(f"split {report.split_hash} ({done})")


@app.command()
def folds(
    path: ManifestPath,
    folds: Annotated[int, typer.Option(help="As of 'cubereel train'.")],
    seed: Annotated[
        int, typer.Option("--split-seed", min=0, max=2**32 - 1, help="As of 'cubereel train'.")
    ] = 0,
    multi_label: MultiLabel = False,
    as_json: AsJson = False,
) -> None:
    """Show the test videos of each fold that 'cubereel train --folds' uses."""
    from pipelines.manifests.splits import folds as run

    report = run(path, num_folds=folds, seed=seed, multi_label=multi_label)
    if as_json:
        print_json(report)
        return
    _print_sides(
        {f"fold {i}": fold.test for i, fold in enumerate(report.folds)},
        ["split", *(fold.split_hash for fold in report.folds)],
    )


@app.command()
def leaks(path: ManifestPath, as_json: AsJson = False) -> None:
    """Look for groups, files and contents on two sides of the column 'split'; exit 3 if any."""
    from features_store.errors import ContractError
    from pipelines.manifests.counts import leaks as run

    report = run(path)
    if as_json:
        print_json(report)
    else:
        for leak in report.leaks:
            typer.echo(leak)
        sides = ", ".join(f"{count} {side}" for side, count in report.videos.items())
        typer.echo(
            f"{len(report.leaks)} leaks ({sides}, {report.unchecked} without a split, "
            f"content of {report.uncompared} not compared)"
        )
    if report.leaks:
        raise ContractError(
            f"{report.manifest} has {len(report.leaks)} leaks between its splits; "
            "'cubereel manifest split' makes one without"
        )


@app.command()
def counts(path: ManifestPath, as_json: AsJson = False) -> None:
    """Count videos, groups and (of a store) frames of every class and split."""
    from pipelines.manifests.counts import counts as run

    report = run(path)
    if as_json:
        print_json(report)
        return
    rows = [
        [_NAMES.get(cell.label, cell.label), cell.split or "(no split)", *_figures(cell.counts)]
        for cell in report.cells
    ]
    columns = ["label", "split", "videos", "groups", "frames"]
    print_table(
        columns if report.total.frames is not None else columns[:-1],
        [*rows, ["all videos", "", *_figures(report.total)]],
    )


_NAMES = {"": "(no label)", ";": "(none of the classes)"}


def _figures(counts: Tally) -> list[str]:
    return [str(n) for n in (counts.videos, counts.groups, counts.frames) if n is not None]


def _print_sides(sides: Mapping[str, SideCounts], *more: Sequence[str]) -> None:
    """Print a column for each side: how many videos of each class, the sums, and more rows."""
    labels = list(next(iter(sides.values())).labels)
    rows = [[label, *(str(side.labels[label]) for side in sides.values())] for label in labels]
    rows.append(["all videos", *(str(side.videos) for side in sides.values())])
    rows.append(["groups", *(str(side.groups) for side in sides.values())])
    print_table(["label", *sides], [*rows, *more])
