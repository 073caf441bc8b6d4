"""One unit of extraction: decode → batches packed across videos → cubes → a committed video each.

Decoding runs ahead in child processes, computing in threads, writing here. Queues are bounded
everywhere, so memory depends neither on the length of a video nor on how many there are.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from extract.batching import BatchPacker, FrameBlock
from extract.compute import ComputedFrames, CubeComputer
from extract.decode_pool import DecodePool, DecodeTask, Failed, Finished, Frames
from extract.lanes import ComputeLanes
from extract.preprocess import frame_diffs
from features_store.errors import DecodeError
from features_store.layout import cube_path
from features_store.records import VideoRecord
from features_store.store_writer import UnitWriter

VIEW = "center"
Batch = list[FrameBlock | Finished | Failed]


@dataclass(frozen=True)
class VideoJob:
    """One video to extract: its id, file and time span, and an upper estimate of its frames."""

    video_id: str
    path: Path
    start_seconds: float | None
    end_seconds: float | None
    max_frames: int


class UnitExtractor:
    """Turns the jobs of one unit into committed videos.

    Args:
        on_frames: called with the number of frames written, for progress.
        on_video: called with each video's record, or with its job and error.
    """

    def __init__(
        self,
        computer: CubeComputer,
        writer: UnitWriter,
        *,
        on_frames: Callable[[int], None],
        on_video: Callable[[VideoRecord | tuple[VideoJob, DecodeError]], None],
    ) -> None:
        self._computer = computer
        self._writer = writer
        self._on_frames = on_frames
        self._on_video = on_video
        self._previous: np.ndarray | None = None

    def run(self, jobs: Sequence[VideoJob], pool: DecodePool) -> None:
        """Extract every job; a video that fails is reported and costs no other."""
        packer: BatchPacker[Finished | Failed] = BatchPacker(self._computer.batch_size)
        lanes: ComputeLanes[Batch] = ComputeLanes(self._computer)
        tasks = [
            DecodeTask(i, str(job.path), job.start_seconds, job.end_seconds)
            for i, job in enumerate(jobs)
        ]
        with lanes:
            for event in pool.decode(tasks):
                if isinstance(event, Frames):
                    packer.add(FrameBlock(event.pixels, event.pts_seconds, event.frame_index))
                else:
                    packer.add(event)
                for batch in packer.full():
                    lanes.add(batch, joined_pixels(batch))
                for batch, computed in lanes.ready():
                    self._record(batch, computed, jobs)
            rest = packer.rest()
            lanes.add(rest, joined_pixels(rest))
            for batch, computed in lanes.rest():
                self._record(batch, computed, jobs)

    def _record(
        self, batch: Batch, computed: ComputedFrames | None, jobs: Sequence[VideoJob]
    ) -> None:
        start = 0
        for item in batch:
            if isinstance(item, FrameBlock):
                assert computed is not None, "there are frames, so they were computed"
                self._write(item, computed, slice(start, start + len(item)))
                start += len(item)
            elif isinstance(item, Finished):
                self._finish(jobs[item.index], item)
            else:
                self._fail(jobs[item.index], item.error)

    def _write(self, block: FrameBlock, computed: ComputedFrames, rows: slice) -> None:
        small = computed.thumbnails[rows]
        self._writer.write_rows(
            {cube_path(VIEW, layer): cubes[rows] for layer, cubes in computed.cubes.items()}
            | {
                f"diffs/{VIEW}": frame_diffs(small, self._previous),
                "pts_seconds": block.pts_seconds,
                "frame_index": block.frame_index,
            }
        )
        self._previous = small[-1]
        self._on_frames(len(block))

    def _finish(self, job: VideoJob, event: Finished) -> None:
        try:
            media = media_fields(job.path)
        except OSError as err:
            error = DecodeError(
                f"{job.path} vanished while it was read: {err}", reason="unreadable"
            )
            self._fail(job, error)
            return
        summary = event.summary
        record = self._writer.commit(
            id=job.video_id,
            status="ok",
            start_seconds=np.nan if job.start_seconds is None else job.start_seconds,
            end_seconds=np.nan if job.end_seconds is None else job.end_seconds,
            source_fps=summary.fps,
            duration_seconds=summary.duration_seconds,
            num_frames=summary.num_frames,
            width=summary.width,
            height=summary.height,
            rotation=summary.rotation,
            crop=summary.crop_rectangle,
            colour_matrix=summary.colour_matrix,
            colour_range=summary.colour_range,
            **media,
        )
        self._previous = None
        self._on_video(record)

    def _fail(self, job: VideoJob, error: DecodeError) -> None:
        self._writer.abandon()
        self._previous = None
        self._on_video((job, error))


def joined_pixels(batch: Batch) -> UInt8[np.ndarray, "n h w 3"] | None:
    """Return the frames of a batch one behind the other, None if it has none."""
    blocks = [item.pixels for item in batch if isinstance(item, FrameBlock)]
    return np.concatenate(blocks) if blocks else None


def media_fields(path: Path) -> dict[str, Any]:
    """Return a file's identity: SHA-256, size and modification time."""
    status = path.stat()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "media_sha256": digest,
        "media_bytes": status.st_size,
        "media_mtime_ns": status.st_mtime_ns,
    }
