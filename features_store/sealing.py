"""From a written file to a sealed shard: fsync, sidecar, rename.

The sidecar is written before the rename, so a shard that has its final name also has its sidecar.
A killed partial is only read and salvaged, never extended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from features_store.disk import fsync_and_hash, fsync_path, write_atomically
from features_store.errors import StoreError
from features_store.layout import ArraySpec
from features_store.shard_copy import StoredVideo, write_shard
from features_store.shard_reader import ShardReader
from features_store.shard_writer import SEALING
from features_store.sidecar import Sidecar

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
    digest: str,
    supersede: Supersede,
) -> Path | None:
    """Turn the committed videos of a partial into a shard; remove the partial.

    Only videos whose rows still match their checksums are copied. Returns None when there is none.
    """
    shard = partial.with_name(partial.name.removesuffix(".partial"))
    if not shard.exists():
        videos = committed_videos(partial, arrays, digest=digest)
        if not videos:
            partial.unlink()
            return None
        seal_copies(
            shard,
            videos,
            arrays,
            digest=digest,
            supersedes=supersede([video.record.id for video in videos]),
        )
    partial.unlink()
    return shard


def seal_copies(
    shard: Path,
    videos: Sequence[StoredVideo],
    arrays: Sequence[ArraySpec],
    *,
    digest: str,
    supersedes: dict[str, list[str]],
) -> None:
    """Write videos of other shards to a new sealed shard."""
    copy = shard.with_name(shard.name.removesuffix(".h5") + SEALING)
    copy.unlink(missing_ok=True)
    try:
        write_shard(copy, videos, arrays, digest=digest)
        publish(copy, shard, supersedes)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise


def committed_videos(
    partial: Path, arrays: Sequence[ArraySpec], *, digest: str
) -> list[StoredVideo]:
    """Return the videos of a partial that are committed and whose rows match their checksums.

    Raises:
        DamageError: the partial cannot be read, though a kill leaves it readable.
    """
    reader = ShardReader(partial, [array.raw for array in arrays], digest=digest)
    videos = []
    for position in range(reader.num_videos):
        try:
            record = reader.record(position)
        except StoreError:
            break  # records are written in order
        if not reader.damaged_arrays(record):
            videos.append(StoredVideo(reader, record))
    return videos


def publish(content: Path, shard: Path, supersedes: dict[str, list[str]]) -> None:
    """Give a complete file its final name, once it and its sidecar are on the disk."""
    sidecar = Sidecar(content.stat().st_size, fsync_and_hash(content), supersedes)
    write_sidecar(shard, sidecar)
    content.rename(shard)
    fsync_path(shard.parent)


def write_sidecar(shard: Path, sidecar: Sidecar) -> None:
    """Write ``<unit>.json`` of a shard, whole or not at all."""
    content = json.dumps(sidecar.to_json(), indent=1).encode()
    write_atomically(shard.with_suffix(".json"), content)
