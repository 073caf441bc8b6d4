"""The table of videos in a shard: one fixed-width record per video, which is also its commit.

A record holds a checksum of every array of its video and one of itself, so a record that was torn
by a kill is not mistaken for a commit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import inf, isfinite, isinf, isnan, nan
from typing import Any

import numpy as np
import xxhash

from features_store.errors import DamageError, UnsafeStoreError, UsageError

MAX_ID_BYTES = 1024
MAX_TABLE_BYTES = 2**28  # of one shard's records, which a reader may take whole
_NO_NAME = re.compile(r"(?:\A|/)\.{0,2}(?:/|\Z)")  # an empty part of a path, '.' or '..'
_FORBIDDEN = re.compile(r"[\0\n\r\\]")
_SUSPICIOUS = (b"\n/", b"/\n", b"//", b"\n.", b"/.", b"\0", b"\r", b"\\")  # between line ends


@dataclass(frozen=True)
class VideoRecord:
    """What a shard says of one video; times in seconds, sizes in pixels.

    Attributes:
        crop: x, y, width, height of what the backbone saw, in pixels of the displayed frame.
        start_seconds, end_seconds: the time span that was asked for; nan where none was.
        duration_seconds: as the container says; nan when unknown.
        source: id of the source in `store.json` that says on what terms the video may be used.
        status: ``ok``, or ``partial`` where these are the frames before the video broke off.
        draws: the rows (0 is the video's first) of every draw of frames; of centres first.
        checksums: xxh3-64 of the video's rows in every array, in the shard's order of arrays.
    """

    id: str
    offset: int
    length: int
    media_sha256: str
    media_bytes: int
    media_mtime_ns: int
    source_fps: float
    duration_seconds: float
    num_frames: int
    width: int
    height: int
    rotation: int
    crop: tuple[float, float, float, float]
    colour_matrix: str
    colour_range: str
    source: str
    status: str
    checksums: tuple[int, ...]
    start_seconds: float = nan
    end_seconds: float = nan
    draws: tuple[tuple[int, ...], ...] = ()


def record_dtype(
    *, id_bytes: int, num_arrays: int, draws_shape: tuple[int, int] | None = None
) -> np.dtype:
    """Return the compound type of the table ``videos``; with `draws_shape` (R, S) also draws."""
    drawn = [("draws", "<i4", draws_shape)] if draws_shape else []
    return np.dtype(
        [
            ("id", f"S{id_bytes}"),
            ("offset", "<i8"),
            ("length", "<i8"),
            ("media_sha256", "S64"),
            ("media_bytes", "<i8"),
            ("media_mtime_ns", "<i8"),
            ("source_fps", "<f8"),
            ("duration_seconds", "<f8"),
            ("num_frames", "<i8"),
            ("width", "<i4"),
            ("height", "<i4"),
            ("rotation", "<i4"),
            ("crop", "<f8", (4,)),
            ("colour_matrix", "S16"),
            ("colour_range", "S16"),
            ("source", "S8"),
            ("status", "S8"),
            ("checksums", "<u8", (num_arrays,)),
            ("start_seconds", "<f8"),
            ("end_seconds", "<f8"),
            *drawn,
            ("record_checksum", "<u8"),
        ]
    )


def max_videos(num_arrays: int, draws_shape: tuple[int, int] | None) -> int:
    """Return how many videos a shard may have, however long their ids are."""
    table = record_dtype(id_bytes=MAX_ID_BYTES, num_arrays=num_arrays, draws_shape=draws_shape)
    return MAX_TABLE_BYTES // table.itemsize


def check_id(video_id: str) -> bytes:
    """Return an id as it is stored; raise `UsageError` for one that could leave a store."""
    try:
        encoded = video_id.encode()
    except UnicodeEncodeError:
        raise UsageError(f"video id {video_id!r} is no UTF-8 text; rename the file") from None
    if _NO_NAME.search(video_id):
        raise UsageError(f"video id {video_id!r} is not a relative path without '.' and '..'")
    if _FORBIDDEN.search(video_id) or len(encoded) > MAX_ID_BYTES:
        raise UsageError(
            f"video id {video_id!r} has a control character or a backslash, "
            f"or more than {MAX_ID_BYTES} bytes; rename the file or give it a video_id"
        )
    return encoded


def check_ids(ids: Sequence[bytes]) -> list[str]:
    """Return ids as texts; raise `UsageError` for the first that could leave a store."""
    joined = b"\n" + b"\n".join(ids) + b"\n"
    is_plain = joined.count(b"\n") == len(ids) + 1 and not any(s in joined for s in _SUSPICIOUS)
    try:
        texts = [video_id.decode() for video_id in ids]
    except UnicodeDecodeError as err:
        raise UsageError(f"video id {err.object!r} is no UTF-8 text") from None
    if not is_plain or b"" in ids or max(map(len, ids), default=0) > MAX_ID_BYTES:
        for text in texts:
            check_id(text)
    return texts


def wrong_field(record: VideoRecord) -> str | None:
    """Return the first field of a record that no extraction and no import could have written."""
    counts = ("media_bytes", "num_frames", "width", "height")
    is_right = {
        "status": record.status in ("ok", "partial"),
        "media_sha256": re.fullmatch("[0-9a-f]{64}", record.media_sha256),
        "crop": all(map(isfinite, record.crop)) and min(record.crop[2:]) >= 0,
        "source_fps": isnan(record.source_fps) or 0 <= record.source_fps < inf,
        "duration_seconds": not isinf(record.duration_seconds),
        "start_seconds": not isinf(record.start_seconds),
        "end_seconds": not isinf(record.end_seconds),
        **{name: getattr(record, name) >= 0 for name in counts},
        "height": record.height >= 0 and (record.height > 0) == (record.width > 0),
    }
    return next((name for name, is_so in is_right.items() if not is_so), None)


def check_record(record: VideoRecord, where: str) -> None:
    """Raise `UnsafeStoreError` for an id that could leave a store, `DamageError` for other lies."""
    try:
        check_id(record.id)
    except UsageError as err:
        raise UnsafeStoreError(f"{where} has a video id that could leave the store: {err}") from err
    if wrong := wrong_field(record):
        raise DamageError(
            f"{where} says that {wrong} is {getattr(record, wrong)!r}, which no video has"
        )


def pack_record(record: VideoRecord, dtype: np.dtype) -> np.ndarray:
    """Return the record as an array of one row, its own checksum filled in."""
    row = np.zeros(1, dtype)
    for field in fields(VideoRecord):
        if field.name == "draws":
            continue
        value = getattr(record, field.name)
        row[field.name] = value.encode() if isinstance(value, str) else value
    if "draws" in (row.dtype.names or ()):
        row["draws"] = np.array(record.draws).reshape(row["draws"].shape)  # never repeated to fit
    row["record_checksum"] = record_checksum(row)
    return row


def record_checksum(row: np.ndarray) -> int:
    """Return xxh3-64 of a one-row array's bytes with its checksum field set to zero."""
    blank = row.copy()
    blank["record_checksum"] = 0
    return xxhash.xxh3_64_intdigest(blank.tobytes())


def is_committed(row: np.ndarray) -> bool:
    """Whether a one-row slice of the table holds a whole record."""
    return bool(row["id"][0]) and int(row["record_checksum"][0]) == record_checksum(row)


def unpack_record(row: np.ndarray) -> VideoRecord:
    """Return the record in a one-row slice of the table ``videos``."""
    values: dict[str, Any] = {}
    if "draws" in (row.dtype.names or ()):
        values["draws"] = tuple(map(tuple, row["draws"][0].tolist()))
    for field in fields(VideoRecord):
        if field.name == "draws":
            continue
        value = row[field.name][0]
        if isinstance(value, bytes):
            values[field.name] = value.decode()
        elif isinstance(value, np.ndarray):
            values[field.name] = tuple(value.tolist())
        else:
            values[field.name] = value.item()
    return VideoRecord(**values)


def wrong_times(times: np.ndarray) -> str:
    """Say which of some times, in seconds, no frame can have; "" where there is none."""
    wrong = times[~np.isfinite(times)]
    return f"pts_seconds has a time of {wrong[0]}, which no frame has" if len(wrong) else ""


def update_checksum(hasher: xxhash.xxh3_64, rows: np.ndarray) -> None:
    """Feed rows to a hasher as the bytes that are stored: C order, little-endian."""
    hasher.update(np.ascontiguousarray(rows).view(np.uint8).data)
