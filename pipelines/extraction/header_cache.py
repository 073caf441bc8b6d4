"""Headers that were read before, one file of JSON lines for each root of videos.

A line is ``[path, size, mtime_ns, width, height, rate, time_base, duration, frames, even, codec]``
and counts as long as size and time are those of the file. Lines are only ever appended, so a killed
run leaves at most one torn line; of two lines with one path the later counts. Lines that cannot be
understood are left out and said.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

from extract.video.header import VideoHeader
from features_store.errors import ContractError, UnsafeStoreError, UsageError
from features_store.format.collector import paused_collector
from features_store.format.inputs import read_file
from features_store.format.outputs import append_lines, write_atomically
from features_store.format.safety import check_own
from features_store.plain import to_plain
from pipelines.machine.cache_folder import cache_folder

logger = logging.getLogger("cubereel")
MAX_BYTES = 2**28
FIRST_LINE = b'{"format": "cubereel headers", "version": 1}\n'
_FRACTION = re.compile(r"[0-9]{1,19}(/[1-9][0-9]{0,18})?")
_TYPES = (str, int, int, int, int, str, str, float, int, bool, str)


def open_header_cache(folder: str | Path | None, *, root: Path) -> HeaderCache:
    """Return the cache of headers below a root, in a folder or where it is by default."""
    if folder is None:
        return HeaderCache(cache_folder("headers", option="header_cache"), root)
    return HeaderCache(Path(folder), root)


class HeaderCache:
    """Headers of the videos below one root.

    Args:
        folder: of all caches; made when there is something to write.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
        self.path = folder / f"{name}.jsonl"
        self._lines: dict[str, list[Any]] = {}
        self._start = b""  # what has to stand before the next line
        self._load()

    def find(self, path: str, status: os.stat_result) -> VideoHeader | None:
        """Return the header of a file, by its path below the root, if it is still that file."""
        line = self._lines.get(path)
        if line is None or line[1] != status.st_size or line[2] != status.st_mtime_ns:
            return None
        return _header(*line[3:])

    def add(self, headers: Iterable[tuple[str, os.stat_result, VideoHeader]]) -> None:
        """Remember headers; where that is not possible it is said, and nothing else happens."""
        lines: list[list[Any]] = []
        for path, status, header in headers:
            lines.append([path, status.st_size, status.st_mtime_ns, *to_plain(header).values()])
        if not lines:
            return
        text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._start == FIRST_LINE:  # what was there is not ours to read
                write_atomically(self.path, self._start + text, mode=0o600)
            else:
                append_lines(self.path, self._start + text, below=self.path.parent)
        except (OSError, ContractError, UsageError) as err:
            logger.warning("headers are not remembered for the next time: %s", err)
            return
        self._start = b""
        self._lines |= {line[0]: line for line in lines}

    @paused_collector()
    def _load(self) -> None:
        try:
            check_own(self.path)
            content = read_file(self.path, most_bytes=MAX_BYTES)
        except FileNotFoundError:
            content = b""
        except (OSError, ValueError, UnsafeStoreError) as err:
            logger.warning("headers read before cannot be used: %s: %s", self.path, err)
            content = b""
        if not content.startswith(FIRST_LINE):
            self._start = FIRST_LINE
            return
        self._start = b"" if content.endswith(b"\n") else b"\n"
        texts = content[len(FIRST_LINE) :].splitlines()
        num_wrong = 0
        for value in _parse_all(texts):
            line = _checked(value)
            if line is None:
                num_wrong += 1
            else:
                self._lines[line[0]] = line
        if num_wrong:
            logger.warning("%s: %d lines are damaged and left out", self.path, num_wrong)


def _parse_all(texts: list[bytes]) -> list[Any]:
    """Return the value of every line; None for one that is no JSON."""
    try:  # all at once, which takes a third of the time
        values: list[Any] = json.loads(b"[" + b",".join(texts) + b"]")
    except (ValueError, RecursionError):
        return [_parse(text) for text in texts]
    return values if len(values) == len(texts) else [_parse(text) for text in texts]


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _checked(line: Any) -> list[Any] | None:
    """Return the values of a line; None when they are not those of a header."""
    if type(line) is not list or tuple(map(type, line)) != _TYPES:
        return None
    if min(line[1], line[3], line[4], line[8]) < 0 or not isfinite(line[7]) or line[7] < 0:
        return None
    return line if _is_fraction(line[5]) and _is_fraction(line[6]) else None


@lru_cache(1024)
def _is_fraction(text: str) -> bool:
    return _FRACTION.fullmatch(text) is not None


@lru_cache(1024)
def _fraction(text: str) -> Fraction:
    return Fraction(text)


@lru_cache(2**17)
def _header(
    width: int, height: int, rate: str, time_base: str, duration: float, frames: int, *rest: Any
) -> VideoHeader:
    is_even, codec = rest
    return VideoHeader(
        width, height, _fraction(rate), _fraction(time_base), duration, frames, is_even, codec
    )
