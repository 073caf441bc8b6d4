"""From a written file to a sealed shard: fsync, sidecar, rename.

The sidecar is written before the rename, so a shard that has its final name also has its sidecar.
A killed partial is only read and salvaged, never extended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from features_store.errors import StoreError
from features_store.format.disk import fsync_and_check, fsync_path
from features_store.format.layout import ArraySpec
from features_store.format.records import is_committed
from features_store.shards.copy import StoredVideo, write_shard
from features_store.shards.reader import ShardReader
from features_store.shards.sidecar import SEALING, Sidecar, write_sidecar
from features_store.spec import Spec

# Video ids to a table: unit -> those of the ids that lie there until now.
Supersede = Callable[[list[str]], dict[str, list[str]]]


def seal_in_place(partial: Path, supersedes: dict[str, list[str]]) -> Path:
    """Turn a partial that this process wrote and closed into a shard, as it is."""
    shard = partial.with_name(partial.name.removesuffix(".partial"))
    publish(partial, shard, supersedes)
    return shard


def seal_by_copy(
    partial: Path,
    arrays: Sequence[ArraySpec],
    *,
    spec: Spec,
    supersede: Supersede,
) -> Path | None:
    """Turn the committed videos of a partial into a shard; remove the partial.

    Only videos whose rows still match their checksums are copied. Returns None when there is none.
    """
    shard = partial.with_name(partial.name.removesuffix(".partial"))
    if not shard.exists():
        raw = [array.raw for array in arrays]
        with open_sound_videos(partial, raw, spec=spec) as videos:
            if videos:
                ids = [video.record.id for video in videos]
                seal_copies(shard, videos, arrays, spec=spec, supersedes=supersede(ids))
    partial.unlink()
    return shard if shard.exists() else None


def seal_copies(
    shard: Path,
    videos: Sequence[StoredVideo],
    arrays: Sequence[ArraySpec],
    *,
    spec: Spec,
    supersedes: dict[str, list[str]],
) -> None:
    """Write videos of other shards to a new sealed shard."""
    copy = shard.with_name(shard.name.removesuffix(".h5") + SEALING)
    copy.unlink(missing_ok=True)
    try:
        write_shard(copy, videos, arrays, spec=spec)
        ShardReader(copy, arrays, spec=spec).close()  # nothing is published that is refused
        publish(copy, shard, supersedes)
    except BaseException:
        if not shard.exists():
            shard.with_suffix(".json").unlink(missing_ok=True)
        copy.unlink(missing_ok=True)
        raise


@contextmanager
def open_sound_videos(
    path: Path, arrays: Sequence[ArraySpec], *, spec: Spec
) -> Iterator[list[StoredVideo]]:
    """Open the videos of a shard or a partial whose record and rows match their checksums.

    Raises:
        DamageError: it cannot be read; no kill leaves a shard or a partial so.
    """
    with closing(ShardReader(path, arrays, spec=spec)) as reader:
        videos = []
        for position in range(reader.num_videos):
            with suppress(StoreError):
                record = reader.record(position)
                if not reader.damaged_arrays(record):
                    videos.append(StoredVideo(record, lambda: reader))
        yield videos


def stored_ids(path: Path, arrays: Sequence[ArraySpec], *, spec: Spec) -> list[str]:
    """Return the ids of all whole records in a partial that this process wrote."""
    with closing(ShardReader(path, arrays, spec=spec)) as reader:
        rows = (reader.table[place : place + 1] for place in range(reader.num_videos))
        return [row["id"][0].decode() for row in rows if is_committed(row)]


def publish(content: Path, shard: Path, supersedes: dict[str, list[str]]) -> None:
    """Give a complete file its final name, once it and its sidecar are on the disk."""
    sidecar = Sidecar(content.stat().st_size, fsync_and_check(content), supersedes)
    write_sidecar(shard, sidecar)
    content.rename(shard)
    fsync_path(shard.parent)
