"""Writing one unit of a store: no lock is taken and nothing is listed, so many may do it at once.

What is written is handed over as shards without a name; whoever may do so lists and names them:
`StoreSession` for one process alone, `UnitParts` beside others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from features_store.catalogue import PARTIAL
from features_store.errors import CubereelError
from features_store.format.records import VideoRecord, check_id
from features_store.format.shard_size import is_sealed_in_place
from features_store.metadata import StoreHeader
from features_store.planned import part_names
from features_store.shards.sealing import NewShard, seal_by_copy, seal_in_place
from features_store.shards.writer import ShardWriter


class UnitWriter:
    """Writes the videos of one unit; a context manager that seals on a regular exit.

    When a video turns out longer than planned, the shard is sealed with what it has and the video
    goes on in a larger one.

    Args:
        path: of the store.
        header: of the store.
        name: of what is written: ``<id>-<generation>``, which no shard or partial has or had.
        source: id of the source that its videos are from.
        rows: an estimate of the frames; it may be exceeded.
        publish: called with every shard that is whole.
        on_lost: called where another worker took over what was written; without it that is an
            error.
    """

    def __init__(
        self,
        path: Path,
        header: StoreHeader,
        name: str,
        *,
        source: str,
        rows: int,
        video_ids: Sequence[str],
        publish: Callable[[NewShard], object],
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        self._folder = path / "shards"
        self._header, self._source = header, source
        self._publish, self._on_lost = publish, on_lost
        self._id_bytes = max(len(check_id(video_id)) for video_id in video_ids)
        self._num_videos = len(video_ids)
        self._planned_rows = max(rows, 1)
        self._names = part_names(name)
        self._shard = self._open(self._planned_rows)

    def __enter__(self) -> UnitWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Seal; also after an error, since what is committed is good."""
        self._shard.abandon()
        if kind is None:
            self._seal(self._shard)
        else:
            # The error on its way says more than a full disk at sealing; the next run salvages.
            with suppress(OSError, RuntimeError, CubereelError):
                self._seal(self._shard)

    def write_rows(self, rows: Mapping[str, np.ndarray]) -> None:
        """Append frames of the video in work: array path -> (n, …)."""
        if len(rows["pts_seconds"]) > self._shard.free_rows:
            self._move_to_larger_shard(len(rows["pts_seconds"]))
        self._shard.write_rows(rows)

    def commit(self, **record: Any) -> VideoRecord:
        """Commit the video in work; see `records.VideoRecord` for the fields."""
        return self._shard.commit(**{"source": self._source, **record})

    def abandon(self) -> None:
        """Forget the rows of the video in work."""
        self._shard.abandon()

    def _open(self, rows: int) -> ShardWriter:
        return ShardWriter(
            self._folder / f"{next(self._names)}{PARTIAL}",
            [array.raw for array in self._header.arrays],
            rows=rows,
            videos=self._num_videos,
            id_bytes=self._id_bytes,
            spec=self._header.spec,
        )

    def _move_to_larger_shard(self, num_new: int) -> None:
        old = self._shard
        # Where one video has more rows than planned, the next ones will.
        self._shard = self._open(max(2 * (old.num_rows_in_work + num_new), self._planned_rows))
        for rows in old.rows_in_work():
            self._shard.write_rows(rows)
        old.abandon()
        self._seal(old)

    def _seal(self, shard: ShardWriter) -> None:
        shard.close()
        arrays, spec = self._header.arrays, self._header.spec
        try:
            if shard.video_ids and is_sealed_in_place(arrays, unused_share=shard.unused_share):
                self._publish(seal_in_place(shard.path, arrays, spec=spec))
            elif (copied := seal_by_copy(shard.path, arrays, spec=spec)) is not None:
                self._publish(copied)
        except FileNotFoundError:
            if self._on_lost is None or shard.path.exists() or not self._folder.is_dir():
                raise
            self._on_lost()
