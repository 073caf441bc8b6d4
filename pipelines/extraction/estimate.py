"""`cubereel plan` as one function: what extracting a source will write and take, headers only."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import sqrt
from pathlib import Path
from statistics import stdev
from typing import get_args

from extract.backbones import Backbone, load_backbone
from extract.backbones.registry import load_network
from extract.decode.settings import DecodeSettings
from extract.video.counts import FrameCount
from features_store.errors import ContractError
from features_store.format.encodings import Dtype
from features_store.format.layout import ArraySpec, LayerShape, shard_arrays, split_units
from features_store.format.records import max_videos
from features_store.format.shard_size import UnitRows, shard_bytes
from features_store.spec import Sampling
from pipelines.extraction.header_cache import open_header_cache
from pipelines.extraction.headers import HeaderSurvey, probe_in_workers, survey_headers
from pipelines.extraction.options import CubeOptions
from pipelines.extraction.plan import count_rows, rooms, row_bytes_of
from pipelines.extraction.request import check_plan
from pipelines.extraction.sources import Source, read_source
from pipelines.machine.calibration import Clip, TimeEstimate, estimate_time
from pipelines.machine.compiling import choose_compiled
from pipelines.machine.devices import build_computer, choose_device, require_decoder

logger = logging.getLogger("cubereel")
NUM_TIMED = 64  # videos that decoding is timed on, as far as the seconds for it reach
NUM_NAMED = 5  # videos with problems that a report names
DEFAULTS = CubeOptions()


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
    options: CubeOptions = DEFAULTS,
    *,
    sample: int | None = None,
    calibrate_seconds: float = 2.0,
) -> PlanReport:
    """Count frames and bytes of an extraction by headers, and time a few seconds of it.

    Without weights the backbone has random ones: its cubes have the same shape and take as long.

    Args:
        sample: read this many headers only, and estimate the rest; None reads all.
        calibrate_seconds: to time decoding, and again the backbone; 0 estimates no time.

    Raises:
        CubereelError: one of its children.
    """
    check_plan(source, options, sample=sample, calibrate_seconds=calibrate_seconds)
    report = PlanReport(
        str(source), 0, options.sampling, options.backbone, options.dtype, options.compression
    )
    gpu = require_decoder(options.decoder, choose_device(options.device))
    network = _load(report, options)
    videos = read_source(Path(source), root=options.root)
    for note in videos.notes:
        logger.warning("%s", note)
    cache = open_header_cache(options.header_cache, root=videos.root)
    read = partial(probe_in_workers, workers=options.workers)
    survey = survey_headers(videos.root, videos.rows, cache=cache, read=read, sample=sample)
    counts = _count(report, videos, survey)
    if network is None:
        return report
    report.layers = network.layers
    id_bytes = max(len(row.video_id.encode()) for row in videos.rows)
    for name in get_args(Dtype):
        arrays = shard_arrays(
            report.layers, views=options.chosen_views, dtype=name,
            has_diff_cubes=options.has_diff_cubes,
        )  # fmt: skip
        report.bytes[name] = _bytes(counts, report, arrays, id_bytes=id_bytes)
    if not calibrate_seconds:
        report.time_problem = "not asked for"
        return report
    computer = build_computer(
        network, fit=options.fit, precision=options.precision, device=options.device,
        batch_size=options.batch_size,
    )  # fmt: skip
    num_pictures = report.frames * len(options.chosen_views) * (2 if options.has_diff_cubes else 1)
    report.time = estimate_time(
        _clips(videos, counts),
        computer=choose_compiled(options.compile, computer, num_frames=num_pictures),
        settings=DecodeSettings(
            preprocessing=computer.preprocessing, sampling=options.sampling,
            decoder=options.decoder, device=gpu,
        ),
        workers=options.workers, seconds=calibrate_seconds,
        num_decoded=report.decoded, num_kept=num_pictures,
    )  # fmt: skip
    if report.time is None:
        report.time_problem = "none of the videos that were tried could be decoded"
    return report


def _load(report: PlanReport, options: CubeOptions) -> Backbone | None:
    report.has_weights = options.weights is not None
    try:
        if options.weights is not None:
            return load_backbone(options.backbone, weights=options.weights, layers=options.layers)
        network = load_network(options.backbone, trained=False)
        return Backbone(options.backbone, network, options.layers)
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
    room, draws = rooms(counts, arrays), report.sampling.draws_shape
    most_videos = max_videos(len(arrays), draws)
    units = (
        UnitRows(
            reserved=sum(room[unit.start : unit.stop]),
            filled=sum(count.kept for count in counts[unit.start : unit.stop]),
            videos=len(unit),
        )
        for unit in split_units(room, row_bytes=row_bytes_of(arrays), most_videos=most_videos)
    )
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
