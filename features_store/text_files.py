"""Text files that people wrote: read as UTF-8; another encoding is named, with a way out."""

from __future__ import annotations

from pathlib import Path

from features_store.errors import ContractError
from features_store.format.inputs import read_file

MAX_TEXT_BYTES = 2**27

_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def read_text(path: Path, *, what: str, most_bytes: int = MAX_TEXT_BYTES) -> str:
    """Return a text without the mark that some programs put before UTF-8.

    Args:
        what: the file is, in words.

    Raises:
        ContractError: it is in another encoding, no text, or has more than `most_bytes`.
    """
    try:
        content = read_file(path, most_bytes=most_bytes)
    except ValueError as err:
        raise ContractError(f"{what} {path} cannot be read: {err}") from err
    if (encoding := _marked(content)) is not None:
        raise ContractError(f"{what} {path} is {encoding}, not UTF-8; {_way_out(path, encoding)}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        byte = content[err.start : err.start + 1]
        line = content[: err.start].count(b"\n") + 1
        sign = byte.decode("cp1252", errors="replace")
        raise ContractError(
            f"{what} {path} is not UTF-8: line {line} has the byte 0x{byte.hex()}, which is "
            f"{sign!r} in cp1252, as Excel writes it; {_way_out(path, 'CP1252')}"
        ) from None
    if "\0" in text:
        raise ContractError(f"{what} {path} is no text: it has a NUL in it; give a text file")
    return text


def _marked(content: bytes) -> str | None:
    """Return the encoding that the first bytes say, by a mark or by a NUL in every other place."""
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return encoding
    pairs = content[:64]
    for zeros, others in ((pairs[1::2], pairs[::2]), (pairs[::2], pairs[1::2])):
        if len(pairs) > 7 and not any(zeros) and all(others):
            return "UTF-16"
    return None


def _way_out(path: Path, encoding: str) -> str:
    return (
        "save it as 'CSV UTF-8', or convert it: "
        f"iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"
    )
