"""`cubereel extract` as one function: source in, store out, safe to run again."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import torch

from extract.backbones import load_backbone
from extract.compute.computer import CubeComputer
from extract.compute.views import ViewComputer
from extract.decode.pool import DecodePool, DecodeSettings
from extract.video.pictures import PictureStack
from features_store.errors import ContractError, CubereelError
from features_store.ledger import read_failures
from features_store.manifest import extend_store_manifest
from features_store.metadata import StoreHeader, is_store, read_header
from features_store.runs import new_run_id, write_run
from features_store.session import StoreSession
from pipelines.executors.deadline import Deadline
from pipelines.extraction.header_cache import open_header_cache
from pipelines.extraction.headers import check_said
from pipelines.extraction.options import ExtractionOptions
from pipelines.extraction.plan import ExtractionPlan, plan_extraction
from pipelines.extraction.request import check_request
from pipelines.extraction.retries import Attempts
from pipelines.extraction.run import ExtractionReport, Run, new_report
from pipelines.extraction.sources import Source, read_source
from pipelines.extraction.store_header import library_versions, new_header, precision_for
from pipelines.machine.compiling import choose_compiled
from pipelines.machine.devices import build_computer, choose_nvdec, launch_at_once

logger = logging.getLogger("cubereel")
BATCHES_AHEAD = 8  # that each decoder may have in its ring
DEFAULTS = ExtractionOptions()


def extract(
    source: str | Path,
    *,
    out: str | Path,
    options: ExtractionOptions = DEFAULTS,
    deadline: Deadline | None = None,
) -> ExtractionReport:
    """Extract the cubes of every video of a source that the store does not have yet.

    Failed videos are listed in the report and in the store's ledger; the others are carried on
    with.

    Args:
        source: a folder of class folders, a manifest CSV, or a list of paths.
        out: the store; made, or extended where it was left.

    Raises:
        CubereelError: one of its children; nothing was changed unless videos were committed.
    """
    started = time.monotonic()
    check_request(source, options)
    videos = read_source(Path(source), root=options.root)
    check_said(videos.rows)
    network = load_backbone(options.backbone, weights=options.weights, layers=options.layers)
    stored = read_header(Path(out)) if is_store(Path(out)) else None
    computer = build_computer(
        network, fit=options.fit, precision=precision_for(stored, options), device=options.device,
        batch_size=options.batch_size,
    )  # fmt: skip
    header = new_header(computer, network, options, root=videos.root, stored=stored)
    pictures = PictureStack.of(options.sampling, header.views)
    pool = _decode_pool(computer, pictures, options)
    run_id = new_run_id()
    with StoreSession(Path(out), header, run_id=run_id) as writer, ExitStack() as stack:
        for shard in writer.salvaged:
            logger.info("salvaged %s of a run that was killed", shard.name)
        plan = plan_extraction(
            videos, options, arrays=header.arrays, find=writer.find,
            attempts=Attempts(read_failures(writer.path)),
            cache=open_header_cache(options.header_cache, root=videos.root),
            # Its processes start only when there is something to do.
            read_headers=lambda paths: stack.enter_context(pool).probe(paths),
        )  # fmt: skip
        _check_replaced(plan, writer, videos)
        _record_manifest(writer, videos)
        report = new_report(run_id, writer, videos, plan)
        with _timed(report, started, is_written=bool(plan.units)):
            if plan.units:
                if not pool.worker_pids:
                    stack.enter_context(pool)
                deadline = deadline or Deadline(None)
                computer = choose_compiled(
                    options.compile, computer, num_frames=plan.num_frames * pictures.num_pictures,
                    seconds_left=deadline.seconds_left,
                )  # fmt: skip
                report.is_compiled = computer.is_compiled
                views = _view_computer(computer, pictures, header)
                Run(writer, views, report, deadline, partial=options.partial).extract(plan, pool)
    return report


def _decode_pool(
    computer: CubeComputer, pictures: PictureStack, options: ExtractionOptions
) -> DecodePool:
    settings = DecodeSettings(
        preprocessing=computer.preprocessing,
        sampling=options.sampling,
        stack=pictures,
        nvdec_device=choose_nvdec(options.decoder, computer.device),
        slots=max(16, BATCHES_AHEAD * computer.batch_size // pictures.num_pictures),
    )
    return DecodePool(settings, workers=options.workers, timeout_seconds=options.timeout_seconds)


def _view_computer(
    computer: CubeComputer, pictures: PictureStack, header: StoreHeader
) -> ViewComputer:
    # While a shard is written nothing is encoded yet.
    written = torch.float32 if header.dtype == "float32" else torch.float16
    return ViewComputer(
        launch_at_once(computer.cubes_as(written)),
        stack=pictures,
        has_diff_cubes=header.has_diff_cubes,
    )


def _record_manifest(writer: StoreSession, videos: Source) -> None:
    differing = extend_store_manifest(writer.path, videos.rows)
    if differing:
        logger.warning(
            "the source says otherwise of %d videos than the store's manifest.csv, which was kept; "
            "first: %s", len(differing), differing[0],
        )  # fmt: skip


def _check_replaced(plan: ExtractionPlan, writer: StoreSession, videos: Source) -> None:
    """Say which videos are extracted again; refuse those of another folder with the same ids."""
    if not plan.replaced:
        return
    for video_id in plan.replaced:
        stored = writer.find(video_id)
        root = videos.root if stored is None else writer.header.source(stored.source).root
        if str(root) != str(videos.root):
            raise ContractError(
                f"videos below {videos.root} have ids that {writer.path} has from {root} (first: "
                f"{video_id!r}); give both sources the same `root`, or write to another store"
            )
    logger.info("%d videos of the store are extracted again", len(plan.replaced))


@contextmanager
def _timed(report: ExtractionReport, started: float, *, is_written: bool) -> Iterator[None]:
    """Fill in the seconds at the end, whatever it is, and write the report of a run with work."""
    try:
        yield
    except BaseException:
        report.seconds = round(time.monotonic() - started, 3)
        # What ended the run says more than a report that cannot be written.
        with suppress(OSError, CubereelError):
            _write_report(report)
        raise
    report.seconds = round(time.monotonic() - started, 3)
    if is_written:
        _write_report(report)


def _write_report(report: ExtractionReport) -> None:
    document = asdict(report) | {
        "verb": "extract",
        "versions": library_versions(),
        "failure_counts": Counter(failure["reason"] for failure in report.failed),
    }
    write_run(Path(report.store), report.run_id, document)
