"""The results of the GPU day as Markdown, one table a step, blank where nothing was measured."""

from __future__ import annotations

from typing import Any


def markdown(results: dict[str, Any]) -> str:
    """Return all steps as tables.

    >>> print(markdown({"a": {"rows": [{"x": 1, "y": None}], "seconds": 2, "problem": ""}}))
    ### a (2 s)
    <BLANKLINE>
    | x | y |
    |---|---|
    | 1 |  |
    <BLANKLINE>
    """
    parts = []
    for name, step in results.items():
        problem = f"; {step['problem']}" if step["problem"] else ""
        parts.append(f"### {name} ({step['seconds']} s{problem})\n\n{table(step['rows'])}\n")
    return "\n".join(parts)


def table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [["" if row.get(c) is None else str(row[c]) for c in columns] for row in rows]
    return "\n".join(line(cells) for cells in lines) if rows else "nothing was measured"


def line(cells: list[str]) -> str:
    if set(cells) == {"---"}:
        return f"|{'|'.join(cells)}|"
    return f"| {' | '.join(cells)} |"
