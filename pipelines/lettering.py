"""Text as a picture can show it: in the fonts of this machine, and what they lack spelt out."""

from __future__ import annotations

import logging
import unicodedata
from dataclasses import dataclass
from functools import cache

from matplotlib.font_manager import findfont, fontManager, get_font

logger = logging.getLogger("cubereel")

FAMILY = "DejaVu Sans"  # comes with matplotlib
PLACEHOLDERS = "LastResort"  # a font of boxes for whatever has no glyph
MAX_CHARACTERS = 500


@dataclass(frozen=True)
class Lettering:
    """Text, and the families of fonts that have all of its characters."""

    text: str
    families: tuple[str, ...] = (FAMILY,)


def letter(text: str) -> Lettering:
    """Return text as it can be drawn; a line says which characters had to be spelt out.

    Characters that no font has, or that are not printed, become an escape such as ``\\u6b65``.
    """
    if len(text) > MAX_CHARACTERS:
        text = f"{text[:MAX_CHARACTERS]}… ({len(text)} characters)"
    wanted = {char for char in text if char.isprintable()}
    usual = findfont(FAMILY)
    lacking = {char for char in wanted if not has_glyph(usual, char)}
    families = [FAMILY]
    for font in fontManager.ttflist if lacking else ():
        if font.name in families or PLACEHOLDERS in font.fname:
            continue
        found = {char for char in lacking if has_glyph(font.fname, char)}
        if found:
            families.append(font.name)
            lacking -= found
    spelt = dict.fromkeys(char for char in text if char in lacking or char not in wanted)
    if lacking:
        logger.warning(
            "no font of this machine has %s: in the picture it is %s",
            "".join(char for char in spelt if char in lacking),
            "".join(escape(char) for char in spelt if char in lacking),
        )
    shown = "".join(escape(char) if char in spelt else char for char in text)
    return Lettering(shown, tuple(families))


@cache
def has_glyph(path: str, char: str) -> bool:
    """Return whether a font can draw a character; those of bitmaps cannot be scaled."""
    try:
        font = get_font(path)
        if ord(char) not in font.get_charmap():
            return False
        font.set_size(12, 100)
        font.load_char(ord(char))
    except (OSError, RuntimeError):
        return False
    return True


def escape(char: str) -> str:
    """Return a character in ASCII.

    >>> escape("歩"), escape("\\n")
    ('\\\\u6b69', '\\\\n')
    """
    return char.encode("unicode_escape").decode("ascii")


def wrap(text: str, *, num_columns: int) -> list[str]:
    """Return lines of at most so many columns, broken at spaces where there are any.

    >>> wrap("where it looks", num_columns=8)
    ['where it', 'looks']
    """
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if columns_of(longer) <= num_columns:
            line = longer
            continue
        lines += [line] if line else []
        line = ""
        for char in word:
            if columns_of(line + char) > num_columns:
                lines.append(line)
                line = ""
            line += char
    return [*lines, line] if line or not lines else lines


def columns_of(text: str) -> int:
    """Return the width of a text: characters, wide ones counted twice."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
