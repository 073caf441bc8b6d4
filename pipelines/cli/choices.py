"""Choices of options, as typer wants them."""

from __future__ import annotations

from enum import StrEnum


class Fit(StrEnum):
    """How frames get the network's shape."""

    crop = "crop"
    stretch = "stretch"
    pad = "pad"


class Partial(StrEnum):
    """What becomes of a video that breaks off."""

    keep = "keep"
    drop = "drop"


class Precision(StrEnum):
    """Of the backbone."""

    fp32 = "fp32"
    bf16 = "bf16"
    auto = "auto"


class Decoder(StrEnum):
    """What decodes videos."""

    cpu = "cpu"
    nvdec = "nvdec"


class Compile(StrEnum):
    """Whether the backbone is compiled."""

    auto = "auto"
    on = "on"
    off = "off"


class Dtype(StrEnum):
    """Of stored cubes."""

    float16 = "float16"
    float32 = "float32"
    eight_bit = "8bit"


class Compression(StrEnum):
    """Of stored cubes and differences."""

    none = "none"
    zstd = "zstd"


class View(StrEnum):
    """What of the picture cubes are of."""

    centre = "center"  # `center` is a method of every text
    flip = "flip"
    top_left = "top_left"
    top_right = "top_right"
    bottom_left = "bottom_left"
    bottom_right = "bottom_right"


class Diffs(StrEnum):
    """What is stored of frame differences."""

    frames = "frames"
    cubes = "cubes"


class Windows(StrEnum):
    """How videos are cut into clips."""

    even = "even"
    sliding = "sliding"
    draws = "draws"


class Order(StrEnum):
    """Of the frames within a clip."""

    forward = "forward"
    reversed = "reversed"
    shuffled = "shuffled"


class Aggregate(StrEnum):
    """How clips of a video decide together."""

    mean = "mean"
    vote = "vote"


class What(StrEnum):
    """What `list` lists."""

    heads = "heads"
    backbones = "backbones"
    grids = "grids"
    papers = "papers"
