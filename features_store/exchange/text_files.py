"""Text files from strangers, one line a video."""

from __future__ import annotations

from pathlib import Path

from features_store.errors import ContractError
from features_store.format.safety import MAX_JSON_BYTES, check_own


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file of bounded size, without blanks around them."""
    check_own(path)
    if not path.is_file():
        raise ContractError(f"{path} is missing or no file; it must have one line a video")
    try:
        num_bytes = path.stat().st_size
        if num_bytes > MAX_JSON_BYTES:
            raise ContractError(f"{path} has {num_bytes} bytes, more than {MAX_JSON_BYTES}")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise ContractError(f"{path} is not UTF-8 text: {err}") from err
    return [line.strip() for line in text.rstrip("\r\n").split("\n")]
