"""What one may ask of an extraction: each option once, for Python and as a flag.

`bench` takes `ComputeOptions`, `plan` takes `StoreOptions`, `extract` takes `ExtractionOptions`.
Fields are keyword arguments in Python; `pipelines.cli.expanding` makes flags of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from extract.video.decoders.names import DecoderName
from features_store.errors import UsageError
from features_store.format.encodings import COMPACT, Compression, Dtype
from features_store.paths import FOLDER, NEW_FOLDER, WEIGHTS
from features_store.spec import Fit, Sampling
from features_store.views import VIEWS, choose_views
from pipelines.executors.registry import PLACES
from pipelines.machine.choices import AskedPrecision, Compile, require_device

Partial = Literal["keep", "drop"]
PATHS = ("weights", "root", "header_cache")


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """Which frames a network sees, and how it computes."""

    backbone: Annotated[str, Option(help="source:name; see 'cubereel list backbones'.")] = (
        "torchvision:googlenet"
    )
    weights: Annotated[
        Path | None,
        Option(
            help="Weights file; else the library's own, in 'plan' and 'bench' random ones.",
            **WEIGHTS.checked,
        ),
    ] = None
    layers: Annotated[
        Sequence[str],
        Option("--layer", help="Layer to keep, or NAME@avg7, NAME@max7; repeat. Last map if none."),
    ] = ()
    fps: Annotated[str | None, Option(help="Frames a second to keep, by time.")] = None
    stride: Annotated[int | None, Option(help="Keep every n-th decoded frame.")] = None
    fit: Annotated[Fit, Option(help="How frames get the network's shape.")] = "crop"
    precision: Annotated[
        AskedPrecision, Option(help="auto: bf16 where it is fast and agrees with fp32.")
    ] = "auto"
    compile: Annotated[
        Compile,
        Option(
            help="Of the backbone, once for a kind of machine, for at most 5 minutes; auto: for "
            "more than 10 minutes of computing, where it is seen to be faster."
        ),
    ] = "auto"
    device: Annotated[
        str, Option(help="cpu, cuda, cuda:1, …, or auto.", callback=require_device)
    ] = "auto"
    decoder: Annotated[
        DecoderName, Option(help="nvdec: the GPU's, which is another spec than the CPU's.")
    ] = "cpu"
    batch_size: Annotated[
        int | None, Option(help="Frames that travel together; by the device if not given.")
    ] = None
    workers: Annotated[int, Option(help="Processes that decode.")] = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in PATHS and isinstance(value, str):  # from a notebook
                self._set(field.name, Path(value))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # frozen for everyone else

    @property
    def sampling(self) -> Sampling:
        """Which frames are kept."""
        return Sampling.parse(fps=self.fps, stride=self.stride)


@dataclass(frozen=True, kw_only=True)
class CubeOptions(ComputeOptions):
    """What a store holds of which frames."""

    count: Annotated[
        int | None, Option(help="Frames to keep of each video, evenly spaced in time.")
    ] = None
    segments: Annotated[
        int | None, Option(help="Keep the centre frame of each of n equal segments.")
    ] = None
    jitter: Annotated[
        int, Option(help="Random draws of a frame a segment, beside that of the centres.")
    ] = 0
    seed: Annotated[int, Option(help="Of the random draws.")] = 0
    views: Annotated[
        Sequence[str],
        Option(
            "--view",
            metavar=f"<list[{'|'.join(VIEWS)}]>",
            help="What of the picture; repeat. center if none.",
        ),
    ] = ()
    diffs: Annotated[
        Literal["frames", "cubes"],
        Option(help="cubes: also the backbone's cubes of difference images."),
    ] = "frames"
    dtype: Annotated[Dtype, Option(help="Of the cubes in the store.")] = "float16"
    compression: Annotated[
        Compression, Option(help="Of cubes and differences in the store; 'plan' counts without.")
    ] = "none"
    compact: Annotated[
        bool, Option("--compact", help="Short for --dtype 8bit --compression zstd.")
    ] = False
    root: Annotated[
        Path | None, Option(help="Folder that video ids are relative to.", **FOLDER.checked)
    ] = None
    header_cache: Annotated[
        Path | None,
        Option(
            help="Folder of headers read before; below ~/.cache/cubereel if none.",
            **NEW_FOLDER.checked,
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.compact:
            return
        dtype, compression = COMPACT
        if (self.dtype, self.compression) not in (("float16", "none"), COMPACT):
            raise UsageError(
                f"`compact` says `dtype` {dtype} and `compression` {compression}; leave those two "
                f"out, got {self.dtype} and {self.compression}"
            )
        self._set("dtype", dtype)
        self._set("compression", compression)

    @property
    def sampling(self) -> Sampling:
        """Which frames are kept."""
        return Sampling.parse(
            fps=self.fps, stride=self.stride, count=self.count, segments=self.segments,
            jitter=self.jitter, seed=self.seed,
        )  # fmt: skip

    @property
    def chosen_views(self) -> tuple[str, ...]:
        """The views in their order."""
        return choose_views(self.views, fit=self.fit)

    @property
    def has_diff_cubes(self) -> bool:
        """Whether cubes of difference images are wanted."""
        return self.diffs == "cubes"


@dataclass(frozen=True, kw_only=True)
class StoreOptions(CubeOptions):
    """What is said of a store's videos, and which of them are extracted: what a plan decides.

    `rehash`, `partial` and `retry_failed` decide which videos are in a store and when, never a
    number in it: they are not in its spec.
    """

    licence: Annotated[str, Option(help="Licence of the videos, kept in the store.")] = ""
    origin: Annotated[str, Option(help="Where the videos are from.")] = ""
    citation: Annotated[str, Option(help="What users of the store are to cite.")] = ""
    rehash: Annotated[
        bool, Option("--rehash", help="Compare files by content, not by size and time.")
    ] = False
    partial: Annotated[
        Partial, Option(help="Of a video that breaks off: keep the frames before, or drop.")
    ] = "drop"
    retry_failed: Annotated[
        bool,
        Option(
            "--retry-failed", help="Try files again that failed or are partial, though unchanged."
        ),
    ] = False
    timeout_seconds: Annotated[
        float, Option("--timeout", help="Seconds without progress after which a video has failed.")
    ] = 120.0
    lease_seconds: Annotated[
        float,
        Option("--lease", help="Seconds after which a worker that gives no sign of life is dead."),
    ] = 60.0
    wait: Annotated[
        bool, Option("--wait", help="Where somebody else writes the store, wait for them.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class ExtractionOptions(StoreOptions):
    """How an extraction is worked on, and which share of a plan."""

    processes: Annotated[
        int,
        Option(help="Worker processes side by side, each with a network and decoders of its own."),
    ] = 1
    cluster: Annotated[str, Option(help=f"Where they run: {', '.join(PLACES)}.")] = "local"
    unit: Annotated[
        str | None,
        Option(
            metavar="I/N",
            help="Of the store's plan, do each N-th unit from number I on; for arrays of tasks.",
        ),
    ] = None
    join: Annotated[
        bool, Option("--join", help="Work on the store's plan, beside those who do already.")
    ] = False
