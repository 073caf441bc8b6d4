"""Options that several verbs about extraction share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import choices

DEFAULT_BACKBONE = "torchvision:googlenet"
Backbone = Annotated[str, typer.Option(help="source:name; see 'cubereel list backbones'.")]
# Of the verbs that only measure.
AnyWeights = Annotated[
    Path | None, typer.Option(help="Weights file; without one, random weights of the same shape.")
]
Layer = Annotated[
    list[str] | None,
    typer.Option(help="Layer to keep, or NAME@avg7, NAME@max7; repeat. Last map if none."),
]
Fps = Annotated[str | None, typer.Option(help="Frames a second to keep, by time.")]
Stride = Annotated[int | None, typer.Option(help="Keep every n-th decoded frame.")]
Count = Annotated[
    int | None, typer.Option(help="Frames to keep of each video, evenly spaced in time.")
]
Segments = Annotated[
    int | None, typer.Option(help="Keep the centre frame of each of n equal segments.")
]
Jitter = Annotated[
    int, typer.Option(help="Random draws of a frame a segment, beside that of the centres.")
]
Seed = Annotated[int, typer.Option(help="Of the random draws.")]
View = Annotated[
    list[choices.View] | None, typer.Option(help="What of the picture; repeat. center if none.")
]
Diffs = Annotated[
    choices.Diffs, typer.Option(help="cubes: also the backbone's cubes of difference images.")
]
Fit = Annotated[choices.Fit, typer.Option(help="How frames get the network's shape.")]
Precision = Annotated[
    choices.Precision, typer.Option(help="auto: bf16 where it is fast and agrees with fp32.")
]
Compile = Annotated[
    choices.Compile,
    typer.Option(
        help="Of the backbone, once for a kind of machine, for at most 5 minutes; auto: for more "
        "than 10 minutes of computing, where it is seen to be faster."
    ),
]
Dtype = Annotated[choices.Dtype, typer.Option(help="Of the cubes in the store.")]
Compact = Annotated[
    bool, typer.Option("--compact", help="Short for --dtype 8bit --compression zstd.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …, or auto.")]
Decoder = Annotated[
    choices.Decoder, typer.Option(help="nvdec: the GPU's, which is another spec than the CPU's.")
]
BatchSize = Annotated[
    int | None, typer.Option(help="Frames that travel together; by the device if not given.")
]
Workers = Annotated[int, typer.Option(help="Processes that decode.")]
Root = Annotated[Path | None, typer.Option(help="Folder that video ids are relative to.")]
HeaderCache = Annotated[
    Path | None,
    typer.Option(help="Folder of headers read before; below ~/.cache/cubereel if none."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
