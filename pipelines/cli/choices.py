"""Choices of options, as typer wants them."""

from __future__ import annotations

from enum import StrEnum


class Dtype(StrEnum):
    """Of stored cubes."""

    float16 = "float16"
    float32 = "float32"
    eight_bit = "8bit"


class Compression(StrEnum):
    """Of stored cubes and differences."""

    none = "none"
    zstd = "zstd"


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
