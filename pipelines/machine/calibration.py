"""A few seconds of decoding and of the backbone, timed here, and what that says of a whole job."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

import torch

from extract.compute.computer import ComputedFrames, CubeComputer
from extract.compute.lanes import ComputeLanes
from extract.compute.precision import fixed_frames
from extract.decode.pool import DecodePool, DecodeSettings, DecodeTask, Frames

SPAN_SECONDS = 10.0  # at most of each, so that a long video is not all there is


@dataclass(frozen=True)
class Clip:
    """A video, or a time span of it, to try decoding on."""

    path: str
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class Timing:
    """Frames that took so many seconds, over a number of videos or batches."""

    frames: int
    seconds: float
    items: int

    @property
    def frames_per_second(self) -> float:
        """0 where nothing could be timed."""
        return self.frames / self.seconds if self.seconds else 0.0


def time_decoding(
    clips: Sequence[Clip],
    settings: DecodeSettings,
    *,
    workers: int,
    seconds: float,
) -> Timing:
    """Decode the clips as extraction would, over and over, for as long as is said.

    Frames count whether they are kept or not. The clock starts when the first frames are there,
    because starting processes is no part of a long job. Nothing is timed when no clip can be
    decoded.
    """
    tasks = (_task(number, clips[number % len(clips)]) for number in count()) if clips else ()
    decoded: dict[int, int] = {}
    first: dict[int, int] = {}
    started: float | None = None
    num_before, elapsed = 0, 0.0
    with DecodePool(settings, workers=workers) as pool:
        for event in pool.decode(tasks):
            if isinstance(event, Frames):
                start = first.setdefault(event.index, int(event.frame_index[0]))
                decoded[event.index] = int(event.frame_index[-1]) + 1 - start
            elif event.summary is not None:
                decoded[event.index] = event.summary.num_frames
            now = time.perf_counter()
            if started is None:
                started, num_before = now, sum(decoded.values())
            elapsed = now - started
            if elapsed > seconds or (event.index >= len(clips) and not decoded):
                break
    videos = len({number % len(clips) for number in decoded})
    return Timing(sum(decoded.values()) - num_before, elapsed, videos)


def _task(number: int, clip: Clip) -> DecodeTask:
    end = (clip.start_seconds or 0.0) + SPAN_SECONDS
    end = end if clip.end_seconds is None else min(end, clip.end_seconds)
    return DecodeTask(number, clip.path, clip.start_seconds, end)


def time_backbone(computer: CubeComputer, *, seconds: float) -> Timing:
    """Compute batches of seeded frames for about as long as is said, a batch at least."""
    frames = fixed_frames(computer.preprocessing.input_size)
    batch = frames.repeat(-(-computer.batch_size // len(frames)), 1, 1, 1)[: computer.batch_size]
    work = partial(computer, batch)
    with ComputeLanes[None, ComputedFrames](computer.device) as lanes:
        lanes.add(None, work)  # the first one chooses kernels and takes memory
        deque(lanes.rest(), maxlen=0)
        started = time.perf_counter()
        num_batches = 0
        while time.perf_counter() - started < seconds:
            lanes.add(None, work)
            num_batches += sum(1 for _ in lanes.ready())
        num_batches += sum(1 for _ in lanes.rest())
        elapsed = time.perf_counter() - started
    return Timing(num_batches * computer.batch_size, elapsed, num_batches)


@dataclass(frozen=True)
class TimeEstimate:
    """How long extraction takes, and what that was measured on.

    Attributes:
        seconds: of the whole job, without starting, writing and waiting for disks.
        decode, backbone: what was measured, each by itself; decoding with `workers` processes.
    """

    seconds: float
    decode: Timing
    backbone: Timing
    decode_seconds: float
    backbone_seconds: float
    device: str
    precision: str
    workers: int
    cores: int


def estimate_time(
    clips: Sequence[Clip],
    *,
    computer: CubeComputer,
    settings: DecodeSettings,
    workers: int,
    seconds: float,
    num_decoded: int,
    num_kept: int,
) -> TimeEstimate | None:
    """Time decoding and the backbone, each for some seconds; None if no clip can be decoded.

    Args:
        settings: how it decodes.
        num_decoded, num_kept: frames of the job.
    """
    decode = time_decoding(clips, settings, workers=workers, seconds=seconds)
    if not decode.frames:
        return None
    backbone = time_backbone(computer, seconds=seconds)
    decoding = num_decoded / decode.frames_per_second
    computing = num_kept / backbone.frames_per_second
    return TimeEstimate(
        seconds=job_seconds(
            decoding=decoding, computing=computing, workers=workers, device=computer.device
        ),
        decode=decode,
        backbone=backbone,
        decode_seconds=decoding,
        backbone_seconds=computing,
        device=str(computer.device),
        precision=computer.precision,
        workers=workers,
        cores=num_cores(),
    )


def job_seconds(*, decoding: float, computing: float, workers: int, device: torch.device) -> float:
    """Return about how long a job takes whose stages alone would take so many seconds.

    Stages overlap, so the slower one decides; on a CPU they also share its cores.
    """
    slower = max(decoding, computing)
    if device.type != "cpu":
        return slower
    busy = decoding * workers + computing * torch.get_num_threads()
    return max(slower, busy / num_cores())


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
