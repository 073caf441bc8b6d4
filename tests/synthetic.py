"""Tiny videos whose frames are known, so that tests compute what they expect."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

RED, GREEN, BLUE, GREY = (200, 30, 30), (30, 200, 30), (30, 30, 200), (128, 128, 128)
_MATRICES = {"bt601": (Colorspace.ITU601, 6), "bt709": (Colorspace.ITU709, 1)}
_RANGES = {"mpeg": ColorRange.MPEG, "jpeg": ColorRange.JPEG}


def solid_frames(colours: Sequence[tuple[int, int, int]], *, width=64, height=48) -> np.ndarray:
    """One frame of a single colour for each of `colours`: (T, H, W, 3) uint8."""
    frames = np.empty((len(colours), height, width, 3), dtype=np.uint8)
    frames[:] = np.array(colours, dtype=np.uint8)[:, None, None]
    return frames


def numbered_frames(num_frames: int, *, width=64, height=48) -> np.ndarray:
    """Frames that tell their index: see `read_numbers`. Good for fewer than 128 frames."""
    frames = np.full((num_frames, height, width, 3), 20, dtype=np.uint8)
    for bit in range(7):
        is_set = (np.arange(num_frames) >> bit) & 1
        left = bit * width // 7
        right = (bit + 1) * width // 7
        frames[:, :, left:right] = (20 + 200 * is_set)[:, None, None, None]
    return frames


def read_numbers(pixels: np.ndarray) -> list[int]:
    """Return the indices that `numbered_frames` wrote, from frames stretched to any size."""
    width = pixels.shape[2]
    centres = [(2 * bit + 1) * width // 14 for bit in range(7)]
    bits = pixels[:, pixels.shape[1] // 2, centres, 1] > 120
    return [int(number) for number in bits @ (1 << np.arange(7))]


def moving_square(num_frames: int, *, width=64, height=48, side=12, step=(2, 1)) -> np.ndarray:
    """A white square on grey that moves by `step` pixels a frame, wrapping around."""
    frames = np.full((num_frames, height, width, 3), 60, dtype=np.uint8)
    for index in range(num_frames):
        rows = (np.arange(side) + index * step[1]) % height
        columns = (np.arange(side) + index * step[0]) % width
        frames[index, rows[:, None], columns[None, :]] = 230
    return frames


def write_video(
    path: Path,
    frames: np.ndarray,
    *,
    fps: int | str = 25,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times_seconds: Sequence[float] | None = None,
    rotation: int = 0,
    is_mirrored: bool = False,
    colour_matrix: str = "bt601",
    colour_range: str = "mpeg",
    is_tagged: bool = False,
    audio_seconds: float = 0.0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write (T, H, W, 3) uint8 RGB frames and return `path`; the container follows its suffix.

    Times are multiples of 1/fps unless `times_seconds` (to the millisecond) says otherwise. Audio,
    when asked for, is the first stream. Nearly lossless: with x264 solid colours survive to +-4.
    """
    rate = Fraction(fps)
    time_base = Fraction(1, 1000) if times_seconds is not None else 1 / rate
    if codec == "libx264":
        options = {"crf": "4", "preset": "ultrafast"} | (options or {})
    matrix, matrix_tag = _MATRICES[colour_matrix]
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        audio = _add_audio(container) if audio_seconds else None
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = 1
        if is_tagged:
            stream.codec_context.colorspace = matrix_tag
            stream.codec_context.color_range = int(_RANGES[colour_range])
        if rotation or is_mirrored:
            stream.set_display_rotation(rotation, hflip=is_mirrored)
        if audio is not None:  # muxed only now: the first packet fixes the list of streams
            _write_silence(audio, audio_seconds)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = frame.reformat(
                format=pixel_format,
                dst_colorspace=matrix,
                dst_color_range=_RANGES[colour_range],
            )
            if is_tagged:
                frame.colorspace = matrix_tag
                frame.color_range = int(_RANGES[colour_range])
            frame.pict_type = 0  # else the encoder may make every frame a keyframe
            frame.pts = index if times_seconds is None else round(1000 * times_seconds[index])
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_audio(path: Path, *, seconds: float = 1.0) -> Path:
    """Write a file with an audio stream alone."""
    with av.open(str(path), "w") as container:
        _write_silence(_add_audio(container), seconds)
    return path


def _add_audio(container: av.container.OutputContainer) -> av.AudioStream:
    stream = container.add_stream("aac", rate=8000)
    stream.layout = "mono"
    return stream


def _write_silence(stream: av.AudioStream, seconds: float) -> None:
    for start in range(0, round(8000 * seconds), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, start, Fraction(1, 8000)
        stream.container.mux(stream.encode(frame))
    stream.container.mux(stream.encode(None))


def cut_off(path: Path, *, keep: float) -> Path:
    """Cut a file to the share `keep` of its bytes, in place."""
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * keep)])
    return path
