"""`cubereel extract` as one function: source in, store out, safe to run again."""

from __future__ import annotations

import logging
import platform
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch

from extract.allocator import keep_freed_memory
from extract.backbones import Backbone, load_backbone
from extract.compute import CubeComputer
from extract.decode_pool import DecodePool
from extract.extractor import UnitExtractor, VideoFailure
from extract.precision import choose_precision
from extract.preprocess import preprocessing_for
from features_store.errors import ContractError, UsageError
from features_store.header import StoreHeader
from features_store.layout import DIFF_GRID
from features_store.ledger import append_failure, new_failure, read_failures
from features_store.manifest import extend_store_manifest
from features_store.records import VideoRecord
from features_store.runs import new_run_id, write_run
from features_store.spec import Fit, Sampling, Spec
from features_store.store_writer import StoreWriter
from pipelines.deadline import Deadline
from pipelines.header_cache import HeaderCache, default_cache_folder
from pipelines.headers import check_said
from pipelines.plan import ExtractionPlan, plan_extraction
from pipelines.progress import ProgressLog
from pipelines.retries import Attempts, Partial
from pipelines.sources import Source, read_source

logger = logging.getLogger("cubereel")
DEFAULT_BACKBONE = "torchvision:googlenet"


@dataclass
class ExtractionReport:
    """What one run of `extract` did; also ``runs/<id>.json`` in the store.

    Attributes:
        seconds: all of it.
        extracting_seconds: from the start of the decoders to the last commit.
        num_done_before, num_extracted: videos that the store holds, partial ones among them.
        num_partial_before: partial ones that the store held before.
        partial, failed: videos that broke off or failed now: ``video_id``, ``reason``, ``error``.
        failed_before: likewise, in earlier runs; they were not tried again.
        stopped: whether the deadline came before all was done.
    """

    run_id: str
    store: str
    num_videos: int
    num_done_before: int
    num_extracted: int = 0
    num_frames: int = 0
    seconds: float = 0.0
    extracting_seconds: float = 0.0
    stopped: bool = False
    num_partial_before: int = 0
    salvaged_shards: list[str] = field(default_factory=list)
    partial: list[dict[str, str]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    failed_before: list[dict[str, str]] = field(default_factory=list)

    @property
    def num_in_store(self) -> int:
        """Videos of the source that the store holds now."""
        return self.num_done_before + self.num_extracted

    @property
    def num_partial(self) -> int:
        """Those of them that are partial."""
        return self.num_partial_before + len(self.partial)

    @property
    def num_failed(self) -> int:
        """Videos of the source that failed, now or in an earlier run."""
        return len(self.failed) + len(self.failed_before)


def extract(
    source: str | Path,
    *,
    out: str | Path,
    backbone: str = DEFAULT_BACKBONE,
    weights: str | Path | None = None,
    layers: Sequence[str] = (),
    fps: str | None = None,
    stride: int | None = None,
    fit: Fit = "crop",
    precision: Literal["fp32", "bf16", "auto"] = "auto",
    dtype: str = "float16",
    compression: str = "none",
    device: str = "auto",
    batch_size: int = 32,
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
) -> ExtractionReport:
    """Extract the cubes of every video of a source that the store does not have yet.

    Failed videos are listed in the report and in the store's ledger; the others are carried on
    with. See `cubereel extract --help` for the arguments. `partial`, `retry_failed` and `deadline`
    decide which videos are in a store and when, never a number in it: they are not in its spec.

    Raises:
        CubereelError: one of its children; nothing was changed unless videos were committed.
    """
    started = time.monotonic()
    if batch_size < 1 or workers < 1:
        raise UsageError(f"batch size and workers must be at least 1: {batch_size}, {workers}")
    sampling = Sampling.parse(fps=fps, stride=stride)
    videos = read_source(Path(source), root=None if root is None else Path(root))
    check_said(videos.rows)
    network = load_backbone(
        backbone, weights=None if weights is None else Path(weights), layers=layers
    )
    computer = build_computer(
        network, fit=fit, precision=precision, device=device, batch_size=batch_size
    )
    header = StoreHeader(
        spec=build_spec(computer, network, sampling),
        layers=network.layers,
        root=str(videos.root),
        dtype=dtype,
        compression=compression,
        licence=licence,
        origin=origin,
        citation=citation,
        versions=library_versions(),
    )
    pool = DecodePool(
        preprocessing=computer.preprocessing,
        sampling=sampling,
        workers=workers,
        timeout_seconds=timeout_seconds,
    )
    run_id = new_run_id()
    with StoreWriter(Path(out), header, run_id=run_id) as writer, ExitStack() as stack:
        for shard in writer.salvaged:
            logger.info("salvaged %s of a run that was killed", shard.name)
        _record_manifest(writer, videos)
        plan = plan_extraction(
            videos, sampling=sampling, arrays=header.arrays, find=writer.find, rehash=rehash,
            cache=HeaderCache(default_cache_folder(), videos.root),
            attempts=Attempts(read_failures(writer.path)), partial=partial,
            retry_failed=retry_failed,
            # Its processes start only when there is something to do.
            read_headers=lambda paths: stack.enter_context(pool).probe(paths),
        )  # fmt: skip
        _check_replaced(plan, writer, videos)
        report = _new_report(run_id, writer, videos, plan)
        if plan.units:
            begun = time.monotonic()
            if not pool.worker_pids:
                stack.enter_context(pool)
            run = _Run(writer, computer, report, deadline or Deadline(None), partial == "keep")
            run.extract(plan, pool)
            report.extracting_seconds = round(time.monotonic() - begun, 3)
        report.seconds = round(time.monotonic() - started, 3)
        if plan.units:
            _write_report(Path(out), report)
    return report


def build_computer(
    network: Backbone,
    *,
    fit: Fit,
    precision: Literal["fp32", "bf16", "auto"],
    device: str,
    batch_size: int,
) -> CubeComputer:
    """Put a backbone on its device at the precision that was asked for."""
    computer = CubeComputer(
        network,
        preprocessing_for(network.config, fit=fit),
        device=choose_device(device),
        batch_size=batch_size,
    )
    if computer.device.type == "cpu":
        keep_freed_memory()
    choice = choose_precision(precision, computer)
    logger.info("%s on %s in %s (%s)", network.name, computer.device, choice.precision, choice.why)
    return computer.with_precision(choice.precision)


def choose_device(name: str) -> torch.device:
    """Return a device by name; ``auto`` is the first GPU, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as err:
        reason = str(err).splitlines()[0]
        raise UsageError(
            f"no device {name!r} here ({reason}); give 'cpu', 'cuda' or 'auto'"
        ) from err
    return device


def build_spec(computer: CubeComputer, network: Backbone, sampling: Sampling) -> Spec:
    """Return all that computes a number."""
    return Spec(
        backbone=network.name,
        weights_sha256=network.weights_sha256,
        preprocessing=computer.preprocessing,
        sampling=sampling,
        diffs=f"frame minus previous kept frame, RGB 0..1, area-averaged to {DIFF_GRID}",
        precision=computer.precision,
        decoder="cpu",
    )


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


def _new_report(
    run_id: str, writer: StoreWriter, videos: Source, plan: ExtractionPlan
) -> ExtractionReport:
    return ExtractionReport(
        run_id,
        str(writer.path),
        len(videos.rows),
        len(plan.done),
        num_partial_before=len(plan.partial),
        salvaged_shards=[shard.name for shard in writer.salvaged],
        failed_before=[
            {"video_id": each.video_id, "reason": each.reason, "error": each.error}
            for each in plan.failed_before
        ],
    )


@dataclass
class _Run:
    """The units of a plan, one after the other, until all is done or the deadline is near."""

    writer: StoreWriter
    computer: CubeComputer
    report: ExtractionReport
    deadline: Deadline
    keep_partial: bool

    def extract(self, plan: ExtractionPlan, pool: DecodePool) -> None:
        """Extract the videos of a plan into the store and the report."""
        self._num_ended = 0
        with ProgressLog("extract", total=plan.num_jobs, unit="videos") as self._progress:
            for jobs in plan.units:
                if self.deadline.is_near:
                    break
                rows = sum(job.max_frames for job in jobs)
                with self.writer.unit(rows=rows, video_ids=[job.video_id for job in jobs]) as unit:
                    UnitExtractor(
                        self.computer, unit, keep_partial=self.keep_partial,
                        on_frames=self._on_frames, on_failure=self._on_failure,
                        on_video=self._on_video,
                    ).run(jobs, pool, may_begin=self.deadline.may_begin)  # fmt: skip
        self.report.stopped = self._num_ended < plan.num_jobs

    def _on_frames(self, num_frames: int) -> None:
        self.report.num_frames += num_frames
        self._progress.show(f"({self.report.num_frames} frames)")

    def _on_failure(self, failure: VideoFailure) -> None:
        job, error = failure.job, failure.error
        line = new_failure(
            video_id=job.video_id,
            path=str(job.path),
            stage="decode",
            reason=error.reason,
            error=str(error),
            outcome="partial" if failure.is_kept else "failed",
            num_frames=failure.num_frames,
            media_bytes=job.media_bytes,
            media_mtime_ns=job.media_mtime_ns,
            start_seconds=job.start_seconds,
            end_seconds=job.end_seconds,
        )
        append_failure(self.writer.path, self.report.run_id, line)
        listed = self.report.partial if failure.is_kept else self.report.failed
        listed.append({"video_id": job.video_id, "reason": error.reason, "error": str(error)})
        logger.warning("%s %s: %s", line.outcome, job.video_id, error)

    def _on_video(self, record: VideoRecord | None) -> None:
        self._num_ended += 1
        self.report.num_extracted += record is not None
        self.deadline.finished()
        self._progress.step(f"({self.report.num_frames} frames)")


def _write_report(store: Path, report: ExtractionReport) -> None:
    document = asdict(report) | {
        "verb": "extract",
        "versions": library_versions(),
        "failure_counts": Counter(failure["reason"] for failure in report.failed),
    }
    write_run(store, report.run_id, document)
