"""Videos from stores into another store: what append, merge, subset and repack have in common.

Shards are written whole, so a killed or failed transfer loses at most the shard in work, and the
same call goes on behind the last one. Memory holds ids and records, never a store's cubes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from features_store.errors import StoreError, UsageError
from features_store.format.layout import SHARD_BYTES, split_units
from features_store.format.records import VideoRecord
from features_store.manifest import ManifestRow, extend_store_manifest
from features_store.metadata import StoreHeader
from features_store.plain import to_plain
from features_store.runs import new_run_id, write_run
from features_store.session import StoreSession
from features_store.store import Store

OnVideos = Callable[[int, int], None]  # videos copied so far, of how many


@dataclass
class TransferReport:
    """What a transfer did.

    Attributes:
        num_there_before: videos that the target had already, from the same files.
        num_repeated: that several sources have, beyond the first of each.
        differing: ids of which the target's manifest said otherwise; it was kept.
    """

    run_id: str
    target: str
    sources: list[str]
    num_videos: int = 0
    num_frames: int = 0
    num_there_before: int = 0
    num_repeated: int = 0
    num_shards: int = 0
    differing: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a video lies: source and shard, and how many frames it has."""

    source: int
    shard: int
    length: int
    video_id: str


def transfer(
    sources: Sequence[Store],
    target: Path,
    header: StoreHeader,
    *,
    verb: str,
    ids: Sequence[str] | None = None,
    shard_bytes: int = SHARD_BYTES,
    on_videos: OnVideos,
) -> TransferReport:
    """Copy videos into the store `target`, made or extended under a header and encoded as it says.

    Args:
        verb: what the report of the run is of.
        ids: of the first source alone; None for all videos of all sources.
        on_videos: called after each shard.

    Raises:
        UsageError: the target is one of the sources.
        StoreError: an id stands for different videos; nothing was copied.
        DamageError: a row is not what was written; the shards before it were copied.
    """
    report = TransferReport(new_run_id(), str(target), [str(store.path) for store in sources])
    for store in sources:
        if store.path.resolve() == target.resolve():
            raise UsageError(f"{target} cannot be added to itself; write to another folder")
        store.check_shards()
    with StoreSession(target, header, run_id=report.run_id) as writer:
        places = [p for n, store in enumerate(sources) for p in _places(store, n, ids)]
        wanted = _missing(places, sources, writer)
        if ids is None:  # else the header says those of the chosen videos
            for store in sources:
                writer.add_sources(store.header.sources)
        ids_there = {place.video_id for place in places}
        report.num_there_before = len(ids_there) - len(wanted)
        report.num_repeated = len(places) - len(ids_there)
        report.differing = extend_store_manifest(target, _manifest_rows(places, sources))
        for unit in _units(wanted, sources, writer.header, shard_bytes=shard_bytes):
            videos = [sources[place.source].stored_video(place.video_id) for place in unit]
            for place, video in zip(unit, videos, strict=True):
                sources[place.source].header.source(video.record.source)
            writer.add_copies(videos)
            report.num_shards += 1
            report.num_videos += len(unit)
            report.num_frames += sum(place.length for place in unit)
            on_videos(report.num_videos, len(wanted))
        write_run(target, report.run_id, {"verb": verb, **to_plain(report)})
    return report


def _places(store: Store, position: int, ids: Sequence[str] | None) -> Iterator[_Place]:
    """Yield the videos of a store in the order in which they lie, so that reads are sequential."""
    index, names = store.index, store.ids
    chosen = np.arange(len(store)) if ids is None else np.array([store.position(i) for i in ids])
    for i in chosen[np.lexsort((index.row[chosen], index.shard[chosen]))] if len(chosen) else []:
        shard, length = int(index.shard[i]), int(index.length[i])
        yield _Place(position, shard, length, names[i])


def _missing(
    places: Sequence[_Place], sources: Sequence[Store], writer: StoreSession
) -> list[_Place]:
    """Return the videos that the target lacks; refuse an id that stands for different videos."""
    missing: dict[str, _Place] = {}
    for place in places:
        other = missing.get(place.video_id)
        if other is None:
            there = writer.find(place.video_id)
        else:
            there = sources[other.source].video(place.video_id)
        if there is None:
            missing[place.video_id] = place
        elif not is_same_video(there, sources[place.source].video(place.video_id)):
            where = writer.path if other is None else sources[other.source].path
            raise StoreError(
                f"video {place.video_id!r} of {sources[place.source].path} is another one in "
                f"{where} (other file, frames or time span); leave it out with 'cubereel store "
                "subset', or extract both under one `root` so that their ids differ"
            )
    return list(missing.values())


def is_same_video(a: VideoRecord, b: VideoRecord) -> bool:
    """Whether two records are of the same frames of the same file."""
    spans = ((a.start_seconds, b.start_seconds), (a.end_seconds, b.end_seconds))
    same_span = all(x == y or (x != x and y != y) for x, y in spans)  # nan: none was asked for
    return same_span and (a.media_sha256, a.length) == (b.media_sha256, b.length)


def _manifest_rows(places: Sequence[_Place], sources: Sequence[Store]) -> list[ManifestRow]:
    """Return what the sources say about the videos; paths stay relative to each one's root."""
    rows: dict[str, ManifestRow] = {}
    manifests = [store.manifest for store in sources]
    for place in places:
        row = manifests[place.source].get(place.video_id)
        if row is not None:
            rows.setdefault(place.video_id, row)
    return list(rows.values())


def _units(
    places: Sequence[_Place],
    sources: Sequence[Store],
    header: StoreHeader,
    *,
    shard_bytes: int,
) -> Iterator[Sequence[_Place]]:
    """Cut the videos into shards; those with scales are not joined, as each has its own."""
    cut = partial(
        split_units,
        row_bytes=sum(array.stored_row_bytes for array in header.arrays),
        shard_bytes=shard_bytes,
        most_videos=header.max_unit_videos,
    )
    for group in _groups(places, sources):
        for positions in cut([place.length for place in group]):
            yield group[positions.start : positions.stop]


def _groups(places: Sequence[_Place], sources: Sequence[Store]) -> Iterator[Sequence[_Place]]:
    has_scales = [any(a.scales_shape is not None for a in s.header.arrays) for s in sources]
    start = 0
    for position in range(1, len(places) + 1):
        if position < len(places):
            before, after = places[position - 1], places[position]
            is_joined = not (has_scales[before.source] or has_scales[after.source])
            if is_joined or (before.source, before.shard) == (after.source, after.shard):
                continue
        yield places[start:position]
        start = position
