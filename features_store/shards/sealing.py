"""From a written file to a sealed shard: fsync, catalogue, rename.

A shard is listed in the catalogue before it is renamed, so no file that has a shard's name is
unknown. A killed partial is only read and salvaged, never extended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

from features_store.catalogue import SEALING, ShardEntry
from features_store.errors import StoreError, UsageError
from features_store.format.disk import fsync_and_check, fsync_path
from features_store.format.layout import ArraySpec
from features_store.format.records import check_id, is_committed
from features_store.listing import identify
from features_store.shards.copy import StoredVideo, write_shard
from features_store.shards.reader import ShardReader
from features_store.spec import Spec

# Video ids to a table: unit -> those of the ids that lie there until now.
Supersede = Callable[[list[str]], Mapping[str, tuple[str, ...]]]
Announce = Callable[[ShardEntry], None]  # lists a shard in the catalogue


@dataclass(frozen=True)
class Sealer:
    """What seals shards of a store.

    Args:
        arrays: as the store encodes them.
        supersede: says where videos lie until now.
        announce: lists a shard in the catalogue.
        naming: held from listing a shard to renaming it, so that only the last entry of a catalogue
            can be one whose shard has no name yet; units are sealed in threads.
    """

    arrays: Sequence[ArraySpec]
    spec: Spec
    supersede: Supersede
    announce: Announce
    naming: Lock = field(default_factory=Lock)

    def in_place(self, partial: Path, shard: Path) -> None:
        """Turn a partial that this process wrote and closed into a shard, as it is."""
        # By its table: a signal can come between writing a record and taking note of it.
        raw = [array.raw for array in self.arrays]
        with closing(ShardReader(partial, raw, spec=self.spec)) as reader:
            rows = (reader.table[place : place + 1] for place in range(reader.num_videos))
            ids = [row["id"][0].decode() for row in rows if is_committed(row)]
        self._publish(partial, shard, raw, self.supersede(ids))

    def by_copy(self, partial: Path, shard: Path) -> bool:
        """Turn the committed videos of a partial into a shard; remove the partial.

        Only videos whose rows still match their checksums are copied. Says whether there was one.
        """
        raw = [array.raw for array in self.arrays]
        with open_sound_videos(partial, raw, spec=self.spec) as videos:
            if videos:
                self.copies(videos, shard)
        partial.unlink()
        return bool(videos)

    def copies(
        self,
        videos: Sequence[StoredVideo],
        shard: Path,
        *,
        supersedes: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Write videos of other shards to a new sealed shard.

        Args:
            supersedes: where they lie until now, if the store does not know.
        """
        copy = shard.with_name(shard.name.removesuffix(".h5") + SEALING)
        copy.unlink(missing_ok=True)
        if supersedes is None:
            supersedes = self.supersede([video.record.id for video in videos])
        try:
            write_shard(copy, videos, self.arrays, spec=self.spec)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        self._publish(copy, shard, self.arrays, supersedes)

    def _publish(
        self,
        content: Path,
        shard: Path,
        arrays: Sequence[ArraySpec],
        supersedes: Mapping[str, tuple[str, ...]],
    ) -> None:
        """List a complete file in the catalogue, then give it its final name."""
        entry = describe_shard(content, arrays, spec=self.spec, supersedes=supersedes)
        with self.naming:
            self.announce(replace(entry, name=shard.name.removesuffix(".h5")))
            content.rename(shard)
        fsync_path(shard.parent)


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
        # Of all records: one that lost its id may have sound ones behind it.
        for position in range(len(reader.table)):
            with suppress(StoreError, UsageError):
                record = reader.record(position)
                check_id(record.id)
                if not reader.damaged_arrays(record):
                    videos.append(StoredVideo(record, lambda: reader))
        yield videos


def describe_shard(
    path: Path,
    arrays: Sequence[ArraySpec],
    *,
    spec: Spec,
    supersedes: Mapping[str, tuple[str, ...]],
) -> ShardEntry:
    """Bring a complete file to the disk and return what the catalogue says of it.

    Raises:
        StoreError: it is no shard that a reader would take.
    """
    checksum = fsync_and_check(path)
    with closing(ShardReader(path, arrays, spec=spec)) as reader:
        offset, table_bytes = reader.table_place
    identity = identify(path, offset=offset, table_bytes=table_bytes)
    num_bytes = path.stat().st_size
    return ShardEntry(path.name.removesuffix(".h5"), num_bytes, checksum, identity, supersedes)
