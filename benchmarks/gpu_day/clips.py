"""Videos to extract on the GPU day: real ones that came along, and 1080p ones made from them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np


def copies(clips: Sequence[Path], folder: Path, *, num_videos: int) -> Path:
    """Fill a folder with copies of clips, each file a video of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(islice(cycle(clips), num_videos)):
        shutil.copyfile(clip, folder / f"{number:05}{clip.suffix}")
    return folder


def synthetic(folder: Path, *, num_videos: int, size: tuple[int, int], num_frames: int) -> Path:
    """Fill a folder with moving noise, where no clip came along."""
    folder.mkdir(parents=True, exist_ok=True)
    width, height = size
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8)
    texture = np.kron(cells, np.ones((16, 16, 1), np.uint8))
    for number in range(num_videos):
        with av.open(str(folder / f"{number:05}.mp4"), "w") as sink:
            stream = sink.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width, stream.height = texture.shape[1], texture.shape[0]
            stream.pix_fmt = "yuv420p"
            for shown in range(num_frames):
                moved = np.roll(texture, (number + 1) * shown, axis=1)
                sink.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
            sink.mux(stream.encode(None))
    return folder


def enlarged(
    clips: Sequence[Path], folder: Path, *, size: tuple[int, int], seconds: float
) -> list[Path]:
    """Write clips again at another size, each repeated to a length, on all cores."""
    folder.mkdir(parents=True, exist_ok=True)
    targets = [folder / clip.name for clip in clips]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        tasks = [
            pool.submit(enlarge, clip, target, size, seconds)
            for clip, target in zip(clips, targets, strict=True)
        ]
        for task in tasks:
            task.result()
    return targets


def enlarge(clip: Path, target: Path, size: tuple[int, int], seconds: float) -> None:
    with av.open(str(clip)) as source:
        video = source.streams.video[0]
        rate = video.average_rate
        frames = [
            frame.reformat(*size, format="yuv420p", interpolation="BICUBIC")
            for frame in islice(source.decode(video), 100)
        ]
    with av.open(str(target), "w") as sink:
        stream = sink.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        there_and_back = [*frames, *frames[-2:0:-1]]
        for number, frame in enumerate(islice(cycle(there_and_back), round(seconds * rate))):
            frame.pts, frame.time_base, frame.pict_type = number, 1 / rate, 0
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
