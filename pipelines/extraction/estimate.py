"""`cubereel plan` as one function: what extracting a source will write and take, headers only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf, sqrt
from pathlib import Path
from statistics import stdev
from typing import Literal, get_args

from extract.backbones import Backbone, load_backbone
from extract.backbones.registry import load_network
from extract.video.counts import FrameCount
from features_store.errors import ContractError, UsageError
from features_store.format.layout import ArraySpec, Dtype, LayerShape, shard_arrays, split_units
from features_store.format.shard_size import UnitRows, shard_bytes
from features_store.spec import Decoder, Fit, Sampling
from features_store.views import choose_views
from pipelines.extraction.extract import DEFAULT_BACKBONE
from pipelines.extraction.header_cache import open_header_cache
from pipelines.extraction.headers import HeaderSurvey, probe_in_workers, survey_headers
from pipelines.extraction.plan import count_rows, rooms, row_bytes_of
from pipelines.extraction.sources import Source, read_source
from pipelines.machine.calibration import Clip, TimeEstimate, estimate_time
from pipelines.machine.compiling import Compile, choose_compiled
from pipelines.machine.devices import build_computer, choose_device, choose_nvdec

NUM_TIMED = 64  # videos that decoding is timed on, as far as the seconds for it reach
NUM_NAMED = 5  # videos with problems that a report names


@dataclass
class PlanReport:
    """What extraction would do.

    Attributes:
        frames: that it will write, chosen from `decoded` ones.
        frames_estimated: those of them in videos whose header does not count frames, or that do
            not come evenly; the others are exact if headers are right.
        spread: half the 95 % interval of `frames` where a sample stands for all; 0 where none
            does, None where it is too small to tell.
        headers: rows that the manifest and the cache knew, rows `unknown` to both, those of them
            `asked`, files that were read for it, and how fast.
        no_header: videos whose header cannot be read, with those that a sample stands for.
        no_frames: videos of which no frame is kept: empty time spans.
        problems: id and what is wrong, of the first of both.
        bytes: dtype -> what for -> bytes without compression; empty without a backbone.
        backbone_problem: why its bytes and its time are not known.
        time: None where it could not be measured or was not to be; `time_problem` says why.
    """

    source: str
    videos: int
    sampling: Sampling
    backbone: str
    dtype: str
    compression: str
    frames: int = 0
    decoded: int = 0
    frames_estimated: int = 0
    spread: float | None = 0.0
    headers: dict[str, float] = field(default_factory=dict)
    no_header: int = 0
    no_frames: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    layers: tuple[LayerShape, ...] = ()
    bytes: dict[str, dict[str, int]] = field(default_factory=dict)
    backbone_problem: str = ""
    has_weights: bool = False
    time: TimeEstimate | None = None
    time_problem: str = ""


def plan(
    source: str | Path,
    *,
    backbone: str = DEFAULT_BACKBONE,
    weights: str | Path | None = None,
    layers: Sequence[str] = (),
    fps: str | None = None,
    stride: int | None = None,
    count: int | None = None,
    segments: int | None = None,
    jitter: int = 0,
    seed: int = 0,
    views: Sequence[str] = (),
    diffs: Literal["frames", "cubes"] = "frames",
    fit: Fit = "crop",
    precision: Literal["fp32", "bf16", "auto"] = "auto",
    compile: Compile = "auto",
    dtype: str = "float16",
    compression: str = "none",
    device: str = "auto",
    decoder: Decoder = "cpu",
    batch_size: int | None = None,
    workers: int = 1,
    root: str | Path | None = None,
    sample: int | None = None,
    calibrate_seconds: float = 2.0,
    header_cache: str | Path | None = None,
) -> PlanReport:
    """Count frames and bytes of an extraction by headers, and time a few seconds of it.

    Without `weights` the backbone has random ones: its cubes have the same shape and take as long.
    See `cubereel plan --help` for the arguments.

    Raises:
        CubereelError: one of its children.
    """
    if workers < 1 or (sample is not None and sample < 1):
        raise UsageError(f"workers and sample must be at least 1: {workers}, {sample}")
    if not 0 <= calibrate_seconds < inf:
        raise UsageError(f"--calibrate must be a number of seconds, got {calibrate_seconds}")
    sampling = Sampling.parse(
        fps=fps, stride=stride, count=count, segments=segments, jitter=jitter, seed=seed
    )
    chosen = choose_views(views, fit=fit)
    shard_arrays((), views=(), dtype=dtype, compression=compression)  # known names?
    report = PlanReport(str(source), 0, sampling, backbone, dtype, compression)
    nvdec_device = choose_nvdec(decoder, choose_device(device))
    network = _load(report, backbone, None if weights is None else Path(weights), layers)
    videos = read_source(Path(source), root=None if root is None else Path(root))
    cache = open_header_cache(header_cache, root=videos.root)
    read = partial(probe_in_workers, workers=workers)
    survey = survey_headers(videos.root, videos.rows, cache=cache, read=read, sample=sample)
    counts = _count(report, videos, survey)
    if network is None:
        return report
    report.layers = network.layers
    id_bytes = max(len(row.video_id.encode()) for row in videos.rows)
    for name in get_args(Dtype):
        arrays = shard_arrays(
            report.layers, views=chosen, dtype=name, has_diff_cubes=diffs == "cubes"
        )
        report.bytes[name] = _bytes(counts, report, arrays, id_bytes=id_bytes)
    if not calibrate_seconds:
        report.time_problem = "not asked for"
        return report
    computer = build_computer(
        network, fit=fit, precision=precision, device=device, batch_size=batch_size
    )
    num_pictures = len(chosen) * (2 if diffs == "cubes" else 1)
    computer = choose_compiled(compile, computer, num_frames=report.frames * num_pictures)
    report.time = estimate_time(
        _clips(videos, counts), computer=computer, sampling=sampling, workers=workers,
        nvdec_device=nvdec_device,
        seconds=calibrate_seconds, num_decoded=report.decoded,
        num_kept=report.frames * num_pictures,
    )  # fmt: skip
    if report.time is None:
        report.time_problem = "none of the videos that were tried could be decoded"
    return report


def _load(
    report: PlanReport, name: str, weights: Path | None, layers: Sequence[str]
) -> Backbone | None:
    report.has_weights = weights is not None
    try:
        if weights is not None:
            return load_backbone(name, weights=weights, layers=layers)
        return Backbone(name, load_network(name, trained=False), layers)
    except ContractError as err:
        report.backbone_problem = str(err)
        return None


def _count(report: PlanReport, videos: Source, survey: HeaderSurvey) -> list[FrameCount]:
    """Return the frames of each row; fill in all that the report says of them."""
    counts = count_rows(videos.rows, survey.headers, report.sampling)
    report.videos = len(counts)
    report.frames = sum(count.kept for count in counts)
    report.decoded = sum(count.decoded for count in counts)
    report.frames_estimated = sum(count.kept for count in counts if not count.is_counted)
    report.spread = sample_spread([counts[i].kept for i in survey.asked], of=len(survey.unknown))
    report.headers = {
        "in_manifest": survey.num_in_manifest,
        "in_cache": survey.num_in_cache,
        "unknown": len(survey.unknown),
        "asked": len(survey.asked),
        "files_read": survey.num_probed,
        "seconds": survey.probe_seconds,
    }
    empty = [i for i, count in enumerate(counts) if not count.kept and i not in survey.errors]
    report.no_header, report.no_frames = len(survey.errors), len(empty)
    read = [i for i in survey.asked if i in survey.errors]
    report.problems = [
        *((videos.rows[i].video_id, str(survey.errors[i])) for i in read[:NUM_NAMED]),
        *((videos.rows[i].video_id, "no frame of it is kept") for i in empty[:NUM_NAMED]),
    ]
    return counts


def sample_spread(values: Sequence[int], *, of: int) -> float | None:
    """Return half the 95 % interval of a sum of `of` values that a sample stands for.

    >>> sample_spread([3, 5], of=2), sample_spread([4], of=9)
    (0.0, None)
    """
    size = len(values)
    if size == of:
        return 0.0
    if size < 2:
        return None
    return 1.96 * of * stdev(values) / sqrt(size) * sqrt(1 - size / of)


def _bytes(
    counts: Sequence[FrameCount], report: PlanReport, arrays: list[ArraySpec], *, id_bytes: int
) -> dict[str, int]:
    """Return the bytes of a store: of each layer in all views, of differences, of the rest."""
    room = rooms(counts, arrays)
    units = (
        UnitRows(
            reserved=sum(room[unit.start : unit.stop]),
            filled=sum(count.kept for count in counts[unit.start : unit.stop]),
            videos=len(unit),
        )
        for unit in split_units(room, row_bytes=row_bytes_of(arrays))
    )
    draws = report.sampling.draws_shape
    size = shard_bytes(arrays, units, id_bytes=id_bytes, draws_shape=draws)
    cubes = {
        layer.name: sum(size.arrays[a.path] for a in arrays if a.path.split("/")[-1] == layer.name)
        for layer in report.layers
    }
    diffs = sum(size.arrays[a.path] for a in arrays if a.path.startswith("diffs/"))
    everything = sum(size.arrays.values()) + size.rest
    rest = everything - sum(cubes.values()) - diffs
    return cubes | {"differences": diffs, "rest": rest, "total": everything}


def _clips(videos: Source, counts: Sequence[FrameCount]) -> list[Clip]:
    """Return some videos to time decoding on, drawn with a fixed seed."""
    with_frames = [i for i, count in enumerate(counts) if count.kept]
    chosen = random.Random(0).sample(with_frames, min(NUM_TIMED, len(with_frames)))
    rows = [videos.rows[i] for i in chosen]
    return [Clip(str(videos.path(row)), row.start_seconds, row.end_seconds) for row in rows]
