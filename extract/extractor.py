"""One unit of extraction: decode → batches packed across videos → cubes → a committed video each.

Decoding runs ahead in child processes; computing and writing take turns here. Queues are bounded
everywhere, so memory depends neither on the length of a video nor on how many there are.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from extract.batching import BatchPacker, FrameBlock
from extract.compute import ComputedFrames, CubeComputer
from extract.decode_pool import DecodePool, DecodeTask, Failed, Finished, Frames
from extract.pictures import PictureStack
from extract.preprocess import frame_diffs
from features_store.errors import DecodeError
from features_store.layout import cube_path, diff_cube_path
from features_store.records import VideoRecord
from features_store.store_writer import UnitWriter


@dataclass(frozen=True)
class VideoJob:
    """One video to extract: its id, file and time span, and an upper estimate of its frames."""

    video_id: str
    path: Path
    start_seconds: float | None
    end_seconds: float | None
    max_frames: int


class _ComputedView(NamedTuple):
    """Frames of one view.

    Attributes:
        before: thumbnails of the frames decoded before, where differences are to those.
        diff_cubes: of difference images, by layer; empty where they are not wanted.
    """

    frames: ComputedFrames
    before: np.ndarray | None
    diff_cubes: dict[str, np.ndarray]


class UnitExtractor:
    """Turns the jobs of one unit into committed videos.

    Args:
        stack: the pictures of a frame, as the pool sends them; cubes are of its views.
        has_diff_cubes: whether cubes of difference images are wanted too.
        on_frames: called with the number of frames written, for progress.
        on_video: called with each video's record, or with its job and error.
    """

    def __init__(
        self,
        computer: CubeComputer,
        writer: UnitWriter,
        *,
        stack: PictureStack,
        has_diff_cubes: bool = False,
        on_frames: Callable[[int], None],
        on_video: Callable[[VideoRecord | tuple[VideoJob, DecodeError]], None],
    ) -> None:
        self._computer = computer
        self._writer = writer
        self._stack = stack
        self._has_diff_cubes = has_diff_cubes
        self._last: np.ndarray | None = None  # kept frame of the video in work, as it travelled
        self._on_frames = on_frames
        self._on_video = on_video
        self._previous: dict[str, np.ndarray] = {}  # thumbnails of the last kept frame, by view

    def run(self, jobs: Sequence[VideoJob], pool: DecodePool) -> None:
        """Extract every job; a video that fails is reported and costs no other."""
        packer: BatchPacker[Finished | Failed] = BatchPacker(self._computer.batch_size)
        tasks = [
            DecodeTask(i, str(job.path), job.start_seconds, job.end_seconds, job.video_id)
            for i, job in enumerate(jobs)
        ]
        for event in pool.decode(tasks):
            if isinstance(event, Frames):
                packer.add(FrameBlock(event.pixels, event.pts_seconds, event.frame_index))
            else:
                packer.add(event)
            for batch in packer.full():
                self._process(batch, jobs)
        self._process(packer.rest(), jobs)

    def _process(
        self, batch: Sequence[FrameBlock | Finished | Failed], jobs: Sequence[VideoJob]
    ) -> None:
        blocks = [item for item in batch if isinstance(item, FrameBlock)]
        if blocks:
            pixels = np.concatenate([block.pixels for block in blocks])
            computed = self._compute(pixels, self._kept_before(batch))
        start = 0
        for item in batch:
            if isinstance(item, FrameBlock):
                self._write(item, computed, slice(start, start + len(item)))
                start += len(item)
            elif isinstance(item, Finished):
                self._finish(jobs[item.index], item)
            else:
                self._fail(jobs[item.index], item.error)

    def _kept_before(self, batch: Sequence[FrameBlock | Finished | Failed]) -> np.ndarray | None:
        """Return for each frame of a batch the kept one before it; for a video's first itself.

        None where the cubes of difference images do not need them.
        """
        if self._stack.has_previous or not self._has_diff_cubes:
            return None
        before = []
        for item in batch:
            if isinstance(item, FrameBlock):
                last = item.pixels[0] if self._last is None else self._last
                before += [last[None], item.pixels[:-1]]
                self._last = item.pixels[-1]
            else:
                self._last = None
        return np.concatenate(before)

    def _compute(
        self, pixels: np.ndarray, kept_before: np.ndarray | None
    ) -> dict[str, _ComputedView]:
        """Compute the views of frames that travel as `pixels`, behind those in `kept_before`."""
        computed = {}
        for view in self._stack.views:
            shown = torch.from_numpy(self._stack.view(pixels, view))
            before, minus = None, None
            if self._stack.has_previous:
                minus = torch.from_numpy(self._stack.previous(pixels, view))
                before = self._computer.thumbnails(minus)
            elif kept_before is not None:
                minus = torch.from_numpy(self._stack.view(kept_before, view))
            diff_cubes = self._computer(shown, minus=minus).cubes if self._has_diff_cubes else {}
            computed[view] = _ComputedView(self._computer(shown), before, diff_cubes)
        return computed

    def _write(self, block: FrameBlock, computed: Mapping[str, _ComputedView], rows: slice) -> None:
        arrays = {"pts_seconds": block.pts_seconds, "frame_index": block.frame_index}
        for view, (frames, before, diff_cubes) in computed.items():
            for layer, cubes in frames.cubes.items():
                arrays[cube_path(view, layer)] = cubes[rows]
            for layer, cubes in diff_cubes.items():
                arrays[diff_cube_path(view, layer)] = cubes[rows]
            small = frames.thumbnails[rows]
            arrays[f"diffs/{view}"] = (
                frame_diffs(small, self._previous.get(view))
                if before is None
                else small - before[rows]
            )
            self._previous[view] = small[-1]
        self._writer.write_rows(arrays)
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
            draws=summary.draws,
            **media,
        )
        self._previous = {}
        self._on_video(record)

    def _fail(self, job: VideoJob, error: DecodeError) -> None:
        self._writer.abandon()
        self._previous = {}
        self._on_video((job, error))


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
