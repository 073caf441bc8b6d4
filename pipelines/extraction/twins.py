"""Files of equal content under several ids, found before they are extracted twice.

Few files are read whole: only those that equal another in size and in three samples.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from extract.unit import VideoJob
from features_store.format.disk import file_sha256
from features_store.manifest import read_store_manifest
from features_store.session import StoreSession

SAMPLE_BYTES = 2**14
NAMED = 3  # pairs, in a message
Span = tuple[float | None, float | None]


@dataclass(frozen=True)
class _File:
    """A video's file; its hash where the store knows it."""

    video_id: str
    path: Path
    size: int
    span: Span
    sha256: str = ""


def find_twins(jobs: Sequence[VideoJob], store: StoreSession) -> list[tuple[str, str]]:
    """Return videos that are to be extracted, each with another one of the same file and span.

    The other one is in the store, or to be extracted before it.
    """
    new = [
        _File(j.video_id, Path(j.path), j.media_bytes, (j.start_seconds, j.end_seconds))
        for j in jobs
        if j.media_bytes
    ]
    sizes = {file.size for file in new}
    replaced = {file.video_id for file in new}
    alike: dict[tuple[int, Span], list[_File]] = defaultdict(list)
    for file in _stored(store, sizes):
        if file.video_id not in replaced:
            alike[file.size, file.span].append(file)
    for file in new:
        alike[file.size, file.span].append(file)
    return [pair for files in alike.values() if len(files) > 1 for pair in _pairs(files)]


def say_twins(twins: Sequence[tuple[str, str]]) -> str:
    """Return a warning of them."""
    named = ", ".join(f"{twin!r} is {other!r}" for twin, other in twins[:NAMED])
    more = f" and {len(twins) - NAMED} more" if len(twins) > NAMED else ""
    return (
        f"{len(twins)} videos are the same file as another one, and will be in the store twice: "
        f"{named}{more}; give sources that share files the same `root`, or leave one of each out"
    )


def _stored(store: StoreSession, sizes: set[int]) -> Iterator[_File]:
    """Yield the files of the store's videos that have one of these sizes."""
    manifest = read_store_manifest(store.path)
    for record in store.records():
        if record.media_bytes in sizes:
            said = (record.start_seconds, record.end_seconds)
            start, end = (None if isnan(seconds) else seconds for seconds in said)
            root = store.header.source(record.source).root
            row = manifest.get(record.id)
            path = Path(root, record.id if row is None else row.path)
            yield _File(record.id, path, record.media_bytes, (start, end), record.media_sha256)


def _pairs(files: Iterable[_File]) -> Iterator[tuple[str, str]]:
    """Yield every new file of equal content with the first that has it; stored ones come first."""
    by_sample: dict[str, list[_File]] = defaultdict(list)
    for file in files:
        by_sample[_sample(file)].append(file)
    # Stored videos whose files are gone may equal any; new files that cannot be read fail later.
    unknown = [file for file in by_sample.pop("", []) if file.sha256]
    for group in by_sample.values():
        candidates = [*unknown, *group]
        if len(candidates) < 2:
            continue
        first: dict[str, str] = {}
        for file in candidates:
            digest = file.sha256 or _sha256(file.path)
            other = first.setdefault(digest, file.video_id)
            if digest and not file.sha256 and other != file.video_id:
                yield file.video_id, other


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:
        return ""


def _sample(file: _File) -> str:
    """Return a hash of three samples of a file; nothing where it is not what was extracted."""
    try:
        with file.path.open("rb") as opened:
            if os.fstat(opened.fileno()).st_size != file.size:
                return ""
            hasher = hashlib.sha256()
            for start in (0, file.size // 2, max(0, file.size - SAMPLE_BYTES)):
                opened.seek(start)
                hasher.update(opened.read(SAMPLE_BYTES))
            return hasher.hexdigest()
    except OSError:
        return ""
