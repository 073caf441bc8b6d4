"""From a written file to a sealed shard: fsync, catalogue, rename.

Whoever wrote a file makes a `NewShard` of it, in whatever process; one process lists it. A shard
is listed in the catalogue before it is renamed, so no file that has a shard's name is unknown. A
killed partial is only read and salvaged, never extended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from features_store.catalogue import PARTIAL, SEALING, ShardEntry
from features_store.errors import StoreError, UnsafeStoreError, UsageError
from features_store.format.disk import fsync_and_check, fsync_path
from features_store.format.layout import ArraySpec
from features_store.format.records import check_ids, is_committed
from features_store.listing import identify
from features_store.shards.copy import StoredVideo, write_shard
from features_store.shards.reader import ShardReader
from features_store.spec import Spec


@dataclass(frozen=True)
class NewShard:
    """A shard that is whole and on the disk, and is not listed yet.

    Attributes:
        entry: as the catalogue will have it, without what it supersedes.
        content: name of the file that it is until then.
        partial: name of the partial whose videos it has, to be removed; empty if there is none.
    """

    entry: ShardEntry
    content: str
    partial: str = ""

    def ids(self, folder: Path, arrays: Sequence[ArraySpec], *, spec: Spec) -> list[str]:
        """Return the ids of its videos; it lies in `folder`."""
        # By its table: a signal can come between writing a record and taking note of it.
        is_raw = self.content.endswith(PARTIAL)
        shown = [array.raw for array in arrays] if is_raw else arrays
        reader = ShardReader(folder / self.content, shown, spec=spec)
        rows = (reader.table[place : place + 1] for place in range(reader.num_videos))
        try:
            return check_ids([row["id"][0] for row in rows if is_committed(row)])
        except UsageError as err:
            raise UnsafeStoreError(f"{self.content}: {err}") from err

    def publish(
        self,
        folder: Path,
        announce: Callable[[ShardEntry], None],
        supersedes: Mapping[str, tuple[str, ...]],
    ) -> Path:
        """List it in the catalogue by `announce`, then give it its name; return where it is."""
        shard = folder / self.entry.file_name
        announce(replace(self.entry, supersedes=supersedes))
        (folder / self.content).rename(shard)
        fsync_path(folder)
        if self.partial:
            (folder / self.partial).unlink()
        return shard


def seal_in_place(partial: Path, arrays: Sequence[ArraySpec], *, spec: Spec) -> NewShard:
    """Make a shard of a partial that this process wrote and closed, as it is.

    Args:
        arrays: as the store encodes them.
    """
    raw = [array.raw for array in arrays]
    name = partial.name.removesuffix(PARTIAL)
    return NewShard(describe_shard(partial, raw, name=name, spec=spec), partial.name)


def seal_by_copy(
    partial: Path, arrays: Sequence[ArraySpec], *, spec: Spec, name: str | None = None
) -> NewShard | None:
    """Make a shard of the committed videos of a partial; without one, remove the partial.

    Only videos whose rows still match their checksums are copied.

    Args:
        name: of the shard; by default that of the partial.
    """
    name = name or partial.name.removesuffix(PARTIAL)
    raw = [array.raw for array in arrays]
    with open_sound_videos(partial, raw, spec=spec) as videos:
        if videos:
            shard = write_copies(videos, partial.parent, arrays, spec=spec, name=name)
            return replace(shard, partial=partial.name)
    partial.unlink()
    return None


def write_copies(
    videos: Sequence[StoredVideo],
    folder: Path,
    arrays: Sequence[ArraySpec],
    *,
    spec: Spec,
    name: str,
) -> NewShard:
    """Write videos of other shards into a shard of their own."""
    content = folder / f"{name}{SEALING}"
    content.unlink(missing_ok=True)
    try:
        write_shard(content, videos, arrays, spec=spec)
    except BaseException:
        content.unlink(missing_ok=True)
        raise
    return NewShard(describe_shard(content, arrays, name=name, spec=spec), content.name)


@contextmanager
def open_sound_videos(
    path: Path, arrays: Sequence[ArraySpec], *, spec: Spec
) -> Iterator[list[StoredVideo]]:
    """Open the videos of a shard or a partial whose record and rows match their checksums.

    Raises:
        DamageError: it cannot be read; no kill leaves a shard or a partial so.
    """
    reader = ShardReader(path, arrays, spec=spec)
    videos = []
    # Of all records: one that lost its id may have sound ones behind it.
    for position in range(len(reader.table)):
        with suppress(StoreError):
            record = reader.record(position)
            if not reader.damaged_arrays(record):
                videos.append(StoredVideo(record, lambda: reader))
    yield videos


def describe_shard(path: Path, arrays: Sequence[ArraySpec], *, name: str, spec: Spec) -> ShardEntry:
    """Bring a complete file to the disk and return what the catalogue says of it.

    Args:
        name: of the shard that the file is to be.

    Raises:
        StoreError: it is no shard that a reader would take.
    """
    checksum = fsync_and_check(path)
    reader = ShardReader(path, arrays, spec=spec)
    reader.check_records()
    offset, table_bytes = reader.table_place
    identity = identify(path, offset=offset, table_bytes=table_bytes)
    return ShardEntry(name, path.stat().st_size, checksum, identity)
