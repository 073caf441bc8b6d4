"""Draws the README's picture small, from a strip that the demo drew.

uv run cubereel demo --out DEMO
uv run python docs/draw_attention.py DEMO/pictures/bunny.png docs/attention.png
"""

import sys

from PIL import Image

WIDTH, COLOURS = 960, 256  # about 90 kB


def draw_small(strip: str, out: str) -> None:
    """Scale a strip to a README's width and to a palette."""
    with Image.open(strip) as picture:
        rgb = picture.convert("RGB")
    size = (WIDTH, round(rgb.height * WIDTH / rgb.width))
    small = rgb.resize(size, Image.Resampling.LANCZOS)
    palette = small.quantize(COLOURS, Image.Quantize.FASTOCTREE)
    dithered = small.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    dithered.save(out, optimize=True)


if __name__ == "__main__":
    draw_small(*sys.argv[1:3])
