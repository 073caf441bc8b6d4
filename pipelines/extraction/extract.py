"""`cubereel extract` as one function: source in, store out, safe to run again."""

from __future__ import annotations

import logging
import platform
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch

from extract.backbones import Backbone, load_backbone
from extract.compute.computer import CubeComputer
from extract.decode.pool import DecodePool, DecodeSettings
from extract.video.pictures import PictureStack
from features_store.errors import ContractError, CubereelError
from features_store.format.layout import DIFF_GRID
from features_store.ledger import read_failures
from features_store.manifest import extend_store_manifest
from features_store.metadata import StoreHeader
from features_store.runs import new_run_id, write_run
from features_store.session import StoreWriter
from features_store.spec import Decoder, Fit, Sampling, Spec
from features_store.views import choose_views
from pipelines.executors.deadline import Deadline
from pipelines.extraction.header_cache import open_header_cache
from pipelines.extraction.headers import check_said
from pipelines.extraction.plan import ExtractionPlan, plan_extraction
from pipelines.extraction.request import check_request
from pipelines.extraction.retries import Attempts, Partial
from pipelines.extraction.run import ExtractionReport, Run, new_report
from pipelines.extraction.sources import Source, read_source
from pipelines.machine.compiling import Compile, choose_compiled
from pipelines.machine.devices import build_computer, choose_nvdec, launch_at_once

logger = logging.getLogger("cubereel")
BATCHES_AHEAD = 8  # that each decoder may have in its ring
DEFAULT_BACKBONE = "torchvision:googlenet"


def extract(
    source: str | Path,
    *,
    out: str | Path,
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
    licence: str = "",
    origin: str = "",
    citation: str = "",
    rehash: bool = False,
    partial: Partial = "drop",
    retry_failed: bool = False,
    deadline: Deadline | None = None,
    timeout_seconds: float = 120.0,
    header_cache: str | Path | None = None,
) -> ExtractionReport:
    """Extract the cubes of every video of a source that the store does not have yet.

    Failed videos are listed in the report and in the store's ledger; the others are carried on
    with. See `cubereel extract --help` for the arguments. `partial`, `retry_failed` and `deadline`
    decide which videos are in a store and when, never a number in it: they are not in its spec.

    Raises:
        CubereelError: one of its children; nothing was changed unless videos were committed.
    """
    started = time.monotonic()
    sampling = Sampling.parse(
        fps=fps, stride=stride, count=count, segments=segments, jitter=jitter, seed=seed
    )
    check_request(
        source, sampling=sampling, backbone=backbone, workers=workers,
        timeout_seconds=timeout_seconds, partial=partial,
    )  # fmt: skip
    chosen_views = choose_views(views, fit=fit)
    videos = read_source(Path(source), root=None if root is None else Path(root))
    check_said(videos.rows)
    network = load_backbone(
        backbone, weights=None if weights is None else Path(weights), layers=layers
    )
    computer = build_computer(
        network, fit=fit, precision=precision, device=device, batch_size=batch_size
    )
    header = StoreHeader(
        spec=build_spec(computer, network, sampling, decoder),
        layers=network.layers,
        root=str(videos.root),
        views=chosen_views,
        has_diff_cubes=diffs == "cubes",
        dtype=dtype,
        compression=compression,
        licence=licence,
        origin=origin,
        citation=citation,
        versions=library_versions(),
    )
    pictures = PictureStack.of(sampling, header.views)
    settings = DecodeSettings(
        preprocessing=computer.preprocessing,
        sampling=sampling,
        stack=pictures,
        nvdec_device=choose_nvdec(decoder, computer.device),
        slots=max(16, BATCHES_AHEAD * computer.batch_size // pictures.num_pictures),
    )
    pool = DecodePool(settings, workers=workers, timeout_seconds=timeout_seconds)
    run_id = new_run_id()
    with StoreWriter(Path(out), header, run_id=run_id) as writer, ExitStack() as stack:
        for shard in writer.salvaged:
            logger.info("salvaged %s of a run that was killed", shard.name)
        plan = plan_extraction(
            videos, sampling=sampling, arrays=header.arrays, find=writer.find, rehash=rehash,
            cache=open_header_cache(header_cache, root=videos.root),
            attempts=Attempts(read_failures(writer.path)), partial=partial,
            retry_failed=retry_failed,
            # Its processes start only when there is something to do.
            read_headers=lambda paths: stack.enter_context(pool).probe(paths),
        )  # fmt: skip
        _check_replaced(plan, writer, videos)
        _record_manifest(writer, videos)
        report = new_report(run_id, writer, videos, plan)
        if plan.units:
            if not pool.worker_pids:
                stack.enter_context(pool)
            frames = sum(job.max_frames for unit in plan.units for job in unit)
            deadline = deadline or Deadline(None)
            computer = choose_compiled(
                compile, computer, num_frames=frames * pictures.num_pictures,
                seconds_left=deadline.seconds_left,
            )  # fmt: skip
            report.is_compiled = computer.is_compiled
            computer = launch_at_once(computer.cubes_as(written_dtype(header)))
            run = Run(writer, computer, pictures, report, deadline, keep_partial=partial == "keep")
            try:
                run.extract(plan, pool)
            except BaseException:
                report.seconds = round(time.monotonic() - started, 3)
                # What ended the run says more than a report that cannot be written.
                with suppress(OSError, CubereelError):
                    _write_report(Path(out), report)
                raise
        report.seconds = round(time.monotonic() - started, 3)
        if plan.units:
            _write_report(Path(out), report)
    return report


def build_spec(
    computer: CubeComputer, network: Backbone, sampling: Sampling, decoder: Decoder
) -> Spec:
    """Return all that computes a number."""
    return Spec(
        backbone=network.name,
        weights_sha256=network.weights_sha256,
        preprocessing=computer.preprocessing,
        sampling=sampling,
        diffs=f"frame minus previous {'decoded' if sampling.is_sparse else 'kept'} frame, "
        f"RGB 0..1, area-averaged to {DIFF_GRID}",
        precision=computer.precision,
        decoder=decoder,
    )


def written_dtype(header: StoreHeader) -> torch.dtype:
    """Return what cubes are while a shard is written, before anything is encoded."""
    return torch.float32 if header.dtype == "float32" else torch.float16


def library_versions() -> dict[str, str]:
    """Return the versions that wrote a store; information, not part of its spec."""
    names = ("cubereel", "torch", "torchvision", "timm", "av", "h5py", "numpy")
    return {name: version(name) for name in names} | {"python": platform.python_version()}


def _record_manifest(writer: StoreWriter, videos: Source) -> None:
    differing = extend_store_manifest(writer.path, videos.rows)
    if differing:
        logger.warning(
            "the source says otherwise of %d videos than the store's manifest.csv, which was kept; "
            "first: %s", len(differing), differing[0],
        )  # fmt: skip


def _check_replaced(plan: ExtractionPlan, writer: StoreWriter, videos: Source) -> None:
    """Say which videos are extracted again; refuse those of another folder with the same ids."""
    if not plan.replaced:
        return
    if writer.header.root != str(videos.root):
        raise ContractError(
            f"{len(plan.replaced)} videos below {videos.root} have ids that {writer.path} has "
            f"from {writer.header.root} (first: {plan.replaced[0]!r}); give both sources the same "
            "--root, or write to another store"
        )
    logger.info("%d videos of the store are extracted again", len(plan.replaced))


def _write_report(store: Path, report: ExtractionReport) -> None:
    document = asdict(report) | {
        "verb": "extract",
        "versions": library_versions(),
        "failure_counts": Counter(failure["reason"] for failure in report.failed),
    }
    write_run(store, report.run_id, document)
