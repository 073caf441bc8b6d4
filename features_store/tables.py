"""Tables as CSV text: what is written is read back to the character, line ends in fields too."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _csv import Reader  # what csv.reader returns has no public name


def parse_table(text: str) -> Reader:
    """Return what reads the lines of a table, read from its file without changed line ends."""
    return csv.reader(io.StringIO(text, newline=""), strict=True)


def table_text(table: Iterable[Sequence[str]]) -> str:
    """Return a table as text.

    >>> table_text([["a", "b,c"]])
    'a,"b,c"\\n'
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    quoted = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for fields in table:  # "\r" ends a line too, and not every Python quotes it
        (quoted if any("\r" in text for text in fields) else writer).writerow(fields)
    return buffer.getvalue()
