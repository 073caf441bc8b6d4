"""`cubereel list`: what there is to choose from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from pipelines.cli.arguments import AsJson
from pipelines.cli.flags import with_flags
from pipelines.cli.show import print_json, print_table

What = Literal["heads", "backbones", "tables", "papers"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("list")(list_what)


def list_what(
    what: Annotated[What, typer.Argument(help="heads, backbones, tables or papers.")],
    as_json: AsJson = False,
) -> None:
    """List heads with their options, backbones, tables of heads, or numbers of papers."""
    if what == "heads":
        _list_heads(as_json)
    elif what == "papers":
        _list_papers(as_json)
    else:
        entries = _backbones() if what == "backbones" else _tables()
        if as_json:
            print_json(entries)
            return
        for name, details in entries.items():
            typer.echo(f"{name:<22}{details}")


def _list_heads(as_json: bool) -> None:
    from train.heads import declared_head, list_heads
    from train.heads.options import values_of

    heads = {name: declared_head(name) for name in list_heads()}
    if as_json:
        print_json(
            {
                name: {
                    "about": head.about,
                    "source": head.source,
                    "options": {
                        option: {"values": values_of(kind), "default": head.defaults[option]}
                        for option, kind in head.types.items()
                    },
                }
                for name, head in heads.items()
            }
        )
        return
    for name, head in heads.items():
        typer.echo(f"{name}: {head.about}\n    source: {head.source}")
        for option, kind in head.types.items():
            values = values_of(kind)
            said = values if isinstance(values, str) else "|".join(map(str, values))
            typer.echo(f"    {option}={said} [{head.defaults[option]}]")


def _tables() -> dict[str, str]:
    from train.protocol.table import table_names

    return table_names()


def _backbones() -> dict[str, str]:
    from extract.backbones.registry import list_backbones

    return {name: with_flags(about) for name, about in list_backbones().items()}


def _list_papers(as_json: bool) -> None:
    from pipelines.recipes.paper_numbers import load_paper_numbers

    known = load_paper_numbers()
    if as_json:
        entries: list[dict[str, Any]] = [
            {"paper": table.paper, "at": known.papers[table.paper].at, "table": table.table}
            | number.model_dump()
            | {
                "value": None if number.value is None else float(number.value),
                "source": known.sources[number.source] if number.source else None,
            }
            for table in known.tables
            for number in table.numbers
        ]
        print_json(entries)
        return
    for table in known.tables:
        paper = known.papers[table.paper]
        typer.echo(f"{paper.title} ({paper.authors}, {paper.at}): {table.table}")
        print_table(*table.grid())
        for source in known.sources_of(table):
            typer.echo(f"seen in: {source}")
        if not table.is_complete:
            typer.echo(f"blank: not at hand; see {table.table} of {paper.at}")
        typer.echo("")
