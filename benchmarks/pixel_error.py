"""How far swscale's pixels are from an exact conversion, and what exactness costs in decoding.

    python -m benchmarks.pixel_error            # needs no data

A picture of smooth colours and edges is scaled and converted by `FrameConverter`'s calls in
several ways, and by float64 arithmetic: planes are scaled by a triangle filter as wide as a source
pixel or, where it is wider, a target pixel, each from where its samples lie (4:2:0 chroma of MPEG
video lies at the left luma pixel of two), then multiplied by the matrix. The table says the mean of
the signed error of each channel, its largest magnitude, and microseconds a frame.
"""

from __future__ import annotations

import time
from itertools import product

import numpy as np
from av import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

EXACT = Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.BILINEAR
FULL_CHROMA = EXACT | Interpolation.FULL_CHR_H_INT
WAYS = {
    "rgb24 (version 1)": ("rgb24", EXACT),
    "rgb24, full chroma": ("rgb24", FULL_CHROMA),
    "planes (version 2)": ("gbrp", FULL_CHROMA),
}
WEIGHTS = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}  # of red and blue in luma
MATRICES = {"601": Colorspace.ITU601, "709": Colorspace.ITU709}
SIZES = {
    "as it is": (320, 240),
    "half": (160, 120),
    "to 340×256": (340, 256),
    "to 341×256": (341, 256),
    "double": (640, 480),
}
WIDTH, HEIGHT, ROUNDS = 320, 240, 50


def picture(rng: np.random.Generator) -> list[np.ndarray]:
    """Return Y, U and V of a picture: smooth colours with some noise, within limited range."""

    def smooth(height: int, width: int) -> np.ndarray:
        waves = rng.normal(size=(6, 6))
        y, x = np.mgrid[:height, :width] / max(height, width) * 6
        field = sum(
            waves[i, j] * np.cos(np.pi * i * y / 6) * np.cos(np.pi * j * x / 6)
            for i, j in product(range(6), repeat=2)
        )
        return field / np.abs(field).max()

    luma = 126 + 70 * smooth(HEIGHT, WIDTH) + rng.normal(0, 6, (HEIGHT, WIDTH))
    chroma = [128 + 50 * smooth(HEIGHT // 2, WIDTH // 2) for _ in range(2)]
    return [np.clip(plane, 16, 235).round().astype(np.uint8) for plane in (luma, *chroma)]


def as_frame(planes: list[np.ndarray]) -> VideoFrame:
    rows = np.concatenate([plane.reshape(-1, WIDTH) for plane in planes])
    return VideoFrame.from_ndarray(rows, format="yuv420p")


def weights_of(source: int, target: int, *, offset: float, scale: float) -> np.ndarray:
    """Return (target, source) triangle weights; sample i lies at (i + offset) · scale pixels."""
    centres = (np.arange(target) + 0.5) * (source * scale / target)
    places = (np.arange(source) + offset) * scale
    width = max(scale, source * scale / target)
    table = np.maximum(0, 1 - np.abs(centres[:, None] - places) / width)
    return table / table.sum(1, keepdims=True)


def exact(
    planes: list[np.ndarray], size: tuple[int, int], matrix: str, is_full: bool
) -> np.ndarray:
    width, height = size
    scaled = []
    for plane, step, left in zip(planes, (1, 2, 2), (0.5, 0.25, 0.25), strict=True):
        rows = weights_of(plane.shape[0], height, offset=0.5, scale=step)
        columns = weights_of(plane.shape[1], width, offset=left, scale=step)
        scaled.append(rows @ plane.astype(np.float64) @ columns.T)
    luma, blue, red = scaled
    if is_full:
        luma, blue, red = luma / 255, (blue - 128) / 255, (red - 128) / 255
    else:
        luma, blue, red = (luma - 16) / 219, (blue - 128) / 224, (red - 128) / 224
    k_red, k_blue = WEIGHTS[matrix]
    k_green = 1 - k_red - k_blue
    r = luma + 2 * (1 - k_red) * red
    b = luma + 2 * (1 - k_blue) * blue
    g = (luma - k_red * r - k_blue * b) / k_green
    return np.clip(np.stack([r, g, b], axis=-1) * 255, 0, 255)


def converted(
    frame: VideoFrame, size: tuple[int, int], matrix: str, is_full: bool, way: str
) -> tuple[np.ndarray, float]:
    kind, flags = WAYS[way]
    reformatter, seconds = VideoReformatter(), []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        rgb = reformatter.reformat(
            frame, *size, format=kind, src_colorspace=int(MATRICES[matrix]),
            src_color_range=int(ColorRange.JPEG if is_full else ColorRange.MPEG),
            dst_color_range=int(ColorRange.JPEG), interpolation=int(flags), threads=1,
        )  # fmt: skip
        seconds.append(time.perf_counter() - started)
    return rgb.to_ndarray(), min(seconds) * 1e6


def main() -> None:
    planes = picture(np.random.default_rng(0))
    frame = as_frame(planes)
    print("| matrix, range | size | way | mean error R G B | largest | µs a frame |")
    print("|---" * 6 + "|")
    for matrix, is_full, (name, size) in product(WEIGHTS, (False, True), SIZES.items()):
        truth = exact(planes, size, matrix, is_full)
        for label in WAYS:
            got, micros = converted(frame, size, matrix, is_full, label)
            error = got - truth
            means = " ".join(f"{mean:+.2f}" for mean in error.mean((0, 1)))
            what = f"BT.{matrix} {'full' if is_full else 'limited'}"
            largest = np.abs(error).max()
            print(f"| {what} | {name} | {label} | {means} | {largest:.1f} | {micros:.0f} |")


if __name__ == "__main__":
    main()
