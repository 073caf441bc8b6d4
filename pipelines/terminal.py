r"""Text of strangers on a terminal: ids, labels, licences and names of files may hold anything.

A terminal obeys control characters, and marks of direction change what a line seems to say. All
that a command prints goes through here, where such characters are written as ``\x1b``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

_LINE_ENDS = {*map(ord, "\n\r\v\f\x85\u2028\u2029")}
_CONTROL = {*range(32), *range(127, 160), *_LINE_ENDS}
_DIRECTION = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_NOT_TEXT = {*range(0xD800, 0xE000)}  # what stands for bytes that are no UTF-8


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


_IN_TEXT = {code: _escape(code) for code in _CONTROL | _DIRECTION | _NOT_TEXT}
_IN_TEXT = {code: said for code, said in _IN_TEXT.items() if chr(code) not in "\n\t"}
_IN_LINE = _IN_TEXT | {code: _escape(code) for code in map(ord, "\n\t")}


def printable(text: str) -> str:
    r"""Return a text that a terminal shows as it is; line ends and tabs stay.

    >>> print(printable("a\x1b[2Jb\u202ec"))
    a\x1b[2Jb\u202ec
    """
    return text.translate(_IN_TEXT)


def in_a_line(text: str) -> str:
    r"""Return a text that stays on its line.

    >>> print(in_a_line("a\nb"))
    a\x0ab
    """
    return text.translate(_IN_LINE)


class _Printable:
    """A stream that shows all that is written to it as `printable` has it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text; return how many characters it had."""
        shown = printable(text)
        try:
            self._stream.write(shown)
        except UnicodeEncodeError as err:  # where the terminal has ASCII alone
            self._stream.write(shown.encode(err.encoding, "backslashreplace").decode(err.encoding))
        return len(text)

    def write_program(self, text: str) -> None:
        """Write what others are to run: as it is, unless it goes to a terminal."""
        self._stream.write(printable(text) if self._stream.isatty() else text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # bytes would go round
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)


def print_program(text: str) -> None:
    """Print a script, of which every byte counts."""
    if isinstance(sys.stdout, _Printable):
        sys.stdout.write_program(text)
    else:
        sys.stdout.write(text)


@contextmanager
def printable_streams() -> Iterator[None]:
    """Let standard output and standard error show what is written as `printable` has it."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Printable(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
