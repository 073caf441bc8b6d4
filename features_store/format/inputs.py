"""The one way in which files of strangers are read: regular ones, of bounded size, bounded parsers.

Opening never waits, so that a pipe is refused and not read. A parser takes no more memory than a
few times its limit, whatever the bytes are.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from io import BytesIO
from pathlib import Path
from typing import IO, Any

MAX_JSON_BYTES = 2**26
MAX_JSON_VALUES = 2**22  # each takes up to 200 bytes of memory
MAX_JSON_DEPTH = 64
MAX_DIGITS = 40
MAX_TOML_BYTES = 2**17
MAX_TOML_DOTS = 256  # in a line: a key of n parts costs n² steps
_MORE_BYTES = 2**16
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS + 1))
_HALF_A_SIGN = re.compile(rb"\\u[dD][89a-fA-F]")
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def open_regular(path: Path, *, most_bytes: int) -> IO[bytes]:
    """Open a file to be read.

    Raises:
        ValueError: it is no regular file, or has more than `most_bytes`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= most_bytes:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    raise ValueError(f"it has {status.st_size} bytes, more than {most_bytes}")


def read_file(path: Path, *, most_bytes: int) -> bytes:
    """Return what a file holds; raises as `open_regular`."""
    with open_regular(path, most_bytes=most_bytes) as file:
        content = file.read(os.fstat(file.fileno()).st_size)  # `read` takes memory for all it may
        while more := file.read(_MORE_BYTES):  # it has grown
            content += more
            if len(content) > most_bytes:
                raise ValueError(f"it has more than {most_bytes} bytes")
    return content


def read_text(path: Path, *, most_bytes: int) -> str:
    """Return UTF-8 text, with or without a byte order mark; raises as `open_regular`."""
    return read_file(path, most_bytes=most_bytes).decode("utf-8-sig")


def parse_json(
    content: bytes, *, may_be_nan: bool = False, most_values: int = MAX_JSON_VALUES
) -> Any:
    """Return a JSON document.

    Args:
        may_be_nan: whether ``NaN`` and ``Infinity`` are numbers, as Python writes them.
        most_values: so many it may have, about.

    Raises:
        ValueError: it is none, or goes beyond the limits above.
    """
    num_values = sum(map(content.count, (b",", b"[", b"{")))
    if num_values > most_values:
        raise ValueError(f"it has about {num_values} values, more than {most_values}")
    if _is_deep(content) and _is_deep(_TEXT.sub(b"", content)):
        raise ValueError(f"it is nested too deeply, more than {MAX_JSON_DEPTH} levels")
    hooks: dict[str, Any] = {} if may_be_nan else {"parse_constant": _refuse_constant}
    if _LONG_NUMBER.search(content):
        hooks["parse_int"] = _parse_int
    document = json.loads(content, **hooks)
    if _HALF_A_SIGN.search(content):  # or both halves, as those of an emoji
        json.dumps(document, ensure_ascii=False).encode()  # a ValueError for what is no text
    return document


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML document; raises as `read_file`, and `ValueError` for one that is none."""
    content = read_file(path, most_bytes=MAX_TOML_BYTES)
    for number, line in enumerate(content.splitlines(), 1):
        if line.count(b".") > MAX_TOML_DOTS:
            raise ValueError(f"line {number} has more than {MAX_TOML_DOTS} dots")
    if _LONG_NUMBER.search(content):
        raise ValueError(f"it has a number of more than {MAX_DIGITS} digits")
    try:
        return tomllib.load(BytesIO(content))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _is_deep(content: bytes) -> bool:
    """Whether brackets are left after the innermost pairs were taken away so many times."""
    brackets = content.translate(None, _NO_BRACKETS)
    for _ in range(MAX_JSON_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return bool(brackets)


def _parse_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"it has a number of {len(digits)} digits, more than {MAX_DIGITS}")
    return int(digits)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it has {name} where a finite number is expected")
