"""What is known of videos before they are decoded: said in the manifest, read before, or read now.

A manifest's columns ``num_frames`` and ``fps`` (or ``duration_seconds`` and ``fps``), of the whole
file, count first; then headers of the same file that were read before; the rest is read.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from extract.decode.pool import DecodePool, DecodeSettings
from extract.video.header import VideoHeader
from features_store.errors import ContractError, DecodeError
from features_store.format.collector import paused_collector
from features_store.manifest import ManifestRow
from features_store.spec import Preprocessing, Sampling
from pipelines.extraction.header_cache import HeaderCache
from pipelines.progress import ProgressLog

MIN_PROBE_WORKERS = 2
BATCH = 1000  # files between two writes of the cache
# How finely timestamps count where only the manifest speaks; None: one tick a frame.
_TIME_BASES = {"avi": None, "mkv": Fraction(1, 1000), "webm": Fraction(1, 1000)}


ReadHeaders = Callable[[Sequence[Path]], Iterable[VideoHeader | DecodeError]]


@dataclass
class HeaderSurvey:
    """Headers of all rows of a source, and where they are from.

    Attributes:
        headers: of each row; a row that was not asked has that of the row that stands for it.
        errors: position of a row -> why its header cannot be read.
        unknown: positions of the rows of which neither manifest nor cache knew.
        asked: those of them whose files were read; all, unless a sample was asked for.
        num_probed: files read now, in `probe_seconds`.
    """

    headers: list[VideoHeader | None]
    errors: dict[int, DecodeError] = field(default_factory=dict)
    unknown: Sequence[int] = ()
    asked: Sequence[int] = ()
    num_in_manifest: int = 0
    num_in_cache: int = 0
    num_probed: int = 0
    probe_seconds: float = 0.0


def survey_headers(
    root: Path,
    rows: Sequence[ManifestRow],
    *,
    cache: HeaderCache,
    read: ReadHeaders,
    sample: int | None = None,
) -> HeaderSurvey:
    """Find the headers of rows.

    Args:
        read: reads those that are not known.
        sample: how many of the unknown rows to read, one in each of as many equal stretches of
            the source; each then stands for its stretch. None reads all.

    Raises:
        ContractError: a manifest says a number of frames, or a rate, that is none.
    """
    survey = HeaderSurvey([None] * len(rows))
    statuses: dict[str, os.stat_result] = {}
    unknown = _look_up(root, rows, cache, statuses, survey)
    survey.unknown = survey.asked = unknown
    strata = [range(i, i + 1) for i in range(len(unknown))]
    if sample is not None and sample < len(unknown):
        strata = cut_evenly(len(unknown), sample)
        rng = random.Random(0)
        survey.asked = [unknown[rng.choice(stratum)] for stratum in strata]
    found = _read_all(root, [rows[i].path for i in survey.asked], statuses, cache, survey, read)
    for position, stratum in zip(survey.asked, strata, strict=True):
        result = found[rows[position].path]
        for i in stratum:
            if isinstance(result, DecodeError):
                survey.errors[unknown[i]] = result
            else:
                survey.headers[unknown[i]] = result
    return survey


@paused_collector()
def _look_up(
    root: Path,
    rows: Sequence[ManifestRow],
    cache: HeaderCache,
    statuses: dict[str, os.stat_result],
    survey: HeaderSurvey,
) -> list[int]:
    """Fill in the headers that manifest or cache know; return the positions of the other rows."""
    unknown = []
    top = os.path.join(root, "")  # noqa: PTH118 (a prefix of many strings)
    for position, row in enumerate(rows):
        header = said_header(row)
        if header is not None:
            survey.num_in_manifest += 1
        elif (header := _remembered(top, row.path, cache, statuses)) is not None:
            survey.num_in_cache += 1
        else:
            unknown.append(position)
        survey.headers[position] = header
    return unknown


def cut_evenly(length: int, parts: int) -> list[range]:
    """Cut positions into consecutive stretches of equal length, give or take one.

    >>> cut_evenly(5, 2)
    [range(0, 2), range(2, 5)]
    """
    return [range(i * length // parts, (i + 1) * length // parts) for i in range(parts)]


def check_said(rows: Sequence[ManifestRow]) -> None:
    """Raise `ContractError` where a manifest says a number of frames, or a rate, that is none."""
    for row in rows:
        said_header(row)


def said_header(row: ManifestRow) -> VideoHeader | None:
    """Return what a manifest says of a row's file; None when that is not enough."""
    said = (row.extra.get(name, "").strip() for name in ("fps", "num_frames", "duration_seconds"))
    fps, frames, duration = said
    if not fps or not (frames or duration):
        return None
    try:
        return _said(frames, fps, duration, row.path[-5:].rpartition(".")[2].lower())
    except ValueError as err:
        raise ContractError(
            f"video {row.video_id!r}: {err}; correct the manifest, or leave these fields empty"
        ) from None


@lru_cache(2**17)
def _said(frames: str, fps: str, duration: str, suffix: str) -> VideoHeader:
    try:
        # By way of a float: the fraction "1e999999999" would fill the memory.
        exact = Fraction(fps) if "/" in fps else Fraction(float(fps))
        rate = exact.limit_denominator(1001)  # 29.97003 is 30000/1001
        num_frames, seconds = int(frames or 0), float(duration or 0)
    except (ValueError, ZeroDivisionError, OverflowError):
        rate, num_frames, seconds = Fraction(0), 0, 0.0
    is_number = 0 < rate < 10**6 and 0 <= num_frames < 10**12 and 0 <= seconds < 10**9
    if not is_number or not (num_frames or seconds):
        raise ValueError(
            f"fps {fps!r}, num_frames {frames!r}, duration_seconds {duration!r} are to be a rate "
            "such as 25 or 30000/1001, a whole number, and a time, above 0"
        )
    time_base = _TIME_BASES.get(suffix, 1 / (rate * 1000)) or 1 / rate
    seconds = seconds or float(num_frames / rate)
    return VideoHeader(0, 0, rate, time_base, seconds, num_frames, is_even=True, codec="")


def _remembered(
    root: str, path: str, cache: HeaderCache, statuses: dict[str, os.stat_result]
) -> VideoHeader | None:
    if path not in statuses:
        try:
            statuses[path] = os.stat(root + path)  # noqa: PTH116  # a Path each is too slow
        except OSError:
            return None  # reading it will say why
    return cache.find(path, statuses[path])


def _read_all(
    root: Path,
    paths: Sequence[str],
    statuses: dict[str, os.stat_result],
    cache: HeaderCache,
    survey: HeaderSurvey,
    read: ReadHeaders,
) -> dict[str, VideoHeader | DecodeError]:
    """Read the headers of files, each once, and remember those that can be read."""
    found: dict[str, VideoHeader | DecodeError] = {}
    wanted = list(dict.fromkeys(paths))
    if not wanted:
        return found
    started = time.monotonic()
    results = iter(read([root / path for path in wanted]))
    with ProgressLog("headers", total=len(wanted), unit="files") as progress:
        for first in range(0, len(wanted), BATCH):
            batch = wanted[first : first + BATCH]
            for path, result in zip(batch, results, strict=False):
                found[path] = result
                progress.step()
            cache.add(
                (path, statuses[path], header)
                for path in batch
                if isinstance(header := found[path], VideoHeader) and path in statuses
            )
    survey.num_probed, survey.probe_seconds = len(wanted), time.monotonic() - started
    return found


def probe_in_workers(paths: Sequence[Path], *, workers: int) -> Iterator[VideoHeader | DecodeError]:
    """Yield the header of each file in turn, or why it has none, by decode workers of its own."""
    any_size = Preprocessing((8, 8), 8, "crop", "bilinear", (0.0,) * 3, (1.0,) * 3, 255.0, "rgb")
    settings = DecodeSettings(preprocessing=any_size, sampling=Sampling("stride", "1"))
    with DecodePool(settings, workers=max(workers, MIN_PROBE_WORKERS)) as pool:
        yield from pool.probe(paths)
