"""A clip of our own, and what decoding it and a seeded backbone gave where it was recorded.

``golden/clip.mp4`` (H.264, 96×64, 12 frames at 10 a second) and ``golden/recorded.npz`` are made by

    uv run python -m pipelines.machine.golden_clip

which overwrites both. H.264 decodes to the same bytes everywhere and swscale is asked for exact
rounding, so frames have a checksum; cubes are floats and are compared by cosine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import av
import numpy as np
import torch
from jaxtyping import Float32, UInt8

from extract.backbones import load_backbone
from extract.compute.computer import CubeComputer
from extract.compute.preprocess import preprocessing_for
from extract.decode.pool import DecodePool, DecodeSettings, DecodeTask, Failed, Frames
from features_store.spec import Preprocessing, Sampling
from features_store.verbs.diff import frame_cosines

FOLDER = Path(str(files("pipelines.machine") / "golden"))
BACKBONE, LAYER = "tiny:conv", "top"
SAMPLING = Sampling("fps", "5")
MIN_COSINE = 0.9999
NUM_FRAMES, WIDTH, HEIGHT, FPS = 12, 96, 64, 10


@dataclass(frozen=True)
class GoldenResult:
    """What this machine makes of the clip.

    Attributes:
        same_frames: whether the decoded and scaled frames have the recorded bytes.
        worst_cosine: of a frame's cube to the recorded one; 0 when the frames are others.
    """

    same_frames: bool
    worst_cosine: float


def clip_path() -> Path:
    """Return where the clip is."""
    return FOLDER / "clip.mp4"


def check_golden_clip(device: torch.device) -> GoldenResult:
    """Decode the clip in a worker process, compute its cubes, compare with the recorded ones.

    Raises:
        CubereelError: it cannot be decoded, or no worker can be started.
    """
    with np.load(FOLDER / "recorded.npz") as recorded:
        checksum = str(recorded["frames_sha256"])
        expected, pts_seconds = recorded["cubes"].astype(np.float32), recorded["pts_seconds"]
    computer = _computer(device)
    frames, seconds = _decode(clip_path(), computer.preprocessing)
    cubes = computer(torch.from_numpy(frames)).cubes[LAYER]
    is_alike = cubes.shape == expected.shape and np.allclose(seconds, pts_seconds)
    worst = float(frame_cosines(cubes, expected).min()) if is_alike else 0.0
    return GoldenResult(_sha256(frames) == checksum, worst)


def _computer(device: torch.device) -> CubeComputer:
    network = load_backbone(BACKBONE, layers=[LAYER])
    preprocessing = preprocessing_for(network.config, fit="crop")
    return CubeComputer(network, preprocessing, device=device, batch_size=NUM_FRAMES)


def _decode(
    clip: Path, preprocessing: Preprocessing
) -> tuple[UInt8[np.ndarray, "t h w 3"], list[float]]:
    blocks, seconds = [], []
    settings = DecodeSettings(preprocessing=preprocessing, sampling=SAMPLING)
    with DecodePool(settings) as pool:
        for event in pool.decode([DecodeTask(0, str(clip))]):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Frames):
                blocks.append(event.pixels)
                seconds += event.pts_seconds.tolist()
    return np.concatenate(blocks), seconds


def _sha256(frames: UInt8[np.ndarray, "t h w 3"]) -> str:
    return hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()


def record(folder: Path) -> None:
    """Make the clip and record what it gives here."""
    folder.mkdir(exist_ok=True)
    _write_clip(folder / "clip.mp4")
    computer = _computer(torch.device("cpu"))
    frames, seconds = _decode(folder / "clip.mp4", computer.preprocessing)
    cubes: Float32[np.ndarray, "t k k d"] = computer(torch.from_numpy(frames)).cubes[LAYER]
    np.savez_compressed(
        folder / "recorded.npz",
        frames_sha256=_sha256(frames),
        pts_seconds=np.array(seconds),
        cubes=cubes.astype(np.float16),
    )


def _write_clip(path: Path) -> None:
    """Encode coloured waves that drift across the picture."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(NUM_FRAMES):
            waves = [np.sin((x * a + y * b) / 12 + number * c) for a, b, c in _WAVES]
            pixels = (128 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))


# Per channel: waves across, waves down, drift a frame.
_WAVES = ((1.0, 0.4, 0.5), (0.3, 1.1, -0.7), (0.8, -0.6, 0.3))

if __name__ == "__main__":
    record(FOLDER)
