"""Fields of CSV files that a spreadsheet would run as a formula, quoted so that it shows them."""

from __future__ import annotations

import re

# A sign begins a formula only where more follows than a number or a name, as of many videos.
_FORMULA = re.compile(r"'*(?:[=@\t\r]|[+-](?=.*[^\w./@ -]))", re.DOTALL)


def quoted(text: str) -> str:
    """Return a field with an apostrophe before it, if a spreadsheet would run it.

    >>> quoted("=1+1"), quoted("-0aB3_x.mp4"), quoted("-1+cmd|' /C calc'!A0")
    ("'=1+1", '-0aB3_x.mp4', "'-1+cmd|' /C calc'!A0")
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unquoted(text: str) -> str:
    """Return what was `quoted`.

    >>> [unquoted(quoted(text)) for text in ("=x", "'=x", "x", "'x")]
    ['=x', "'=x", 'x', "'x"]
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
