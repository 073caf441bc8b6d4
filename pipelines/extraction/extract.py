"""`cubereel extract` as one function: source in, store out, safe to run again."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

from extract.backbones import load_backbone
from extract.compute.computer import CubeComputer
from extract.video.pictures import PictureStack
from features_store.errors import ContractError, CubereelError
from features_store.ledger import read_failures
from features_store.manifest import extend_store_manifest
from features_store.metadata import is_store, read_header
from features_store.runs import new_run_id, write_run
from features_store.session import StoreSession
from pipelines.executors.deadline import Deadline
from pipelines.executors.registry import is_needed
from pipelines.extraction.header_cache import open_header_cache
from pipelines.extraction.headers import ReadHeaders, check_said
from pipelines.extraction.options import ExtractionOptions
from pipelines.extraction.plan import ExtractionPlan, plan_extraction
from pipelines.extraction.request import check_request
from pipelines.extraction.retries import Attempts
from pipelines.extraction.run import ExtractionReport, Run, new_report
from pipelines.extraction.sources import Source, read_source
from pipelines.extraction.store_header import library_versions, new_header, precision_for
from pipelines.extraction.work import UnitSettings, UnitWork, open_pool
from pipelines.machine.compiling import choose_compiled
from pipelines.machine.devices import build_computer, require_decoder

logger = logging.getLogger("cubereel")
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
    require_decoder(options.decoder, computer.device)  # before anything is written
    header = new_header(computer, network, options, root=videos.root, stored=stored)
    run_id, deadline = new_run_id(), deadline or Deadline(None)
    with StoreSession(Path(out), header, run_id=run_id) as store, ExitStack() as stack:
        for shard in store.salvaged:
            logger.info("salvaged %s of a run that was killed", shard.name)
        settings = _settings(store, computer, options, deadline)
        pool = open_pool(store.header, computer, settings)
        # Its processes start only when there is something to do.
        plan = _plan(videos, options, store, lambda paths: stack.enter_context(pool).probe(paths))
        report = new_report(run_id, store, videos, plan)
        with _timed(report, started, is_written=bool(plan.units)):
            if plan.units:
                num_pictures = PictureStack.of(options.sampling, header.views).num_pictures
                computer = choose_compiled(
                    options.compile, computer, num_frames=plan.num_frames * num_pictures,
                    seconds_left=deadline.seconds_left,
                )  # fmt: skip
                report.is_compiled = computer.is_compiled
                run = Run(store, report, plan)
                if not is_needed(options.cluster, options.processes):
                    run.here(UnitWork(settings, computer=computer, pool=pool, deadline=deadline))
                    return report
                pool.close()
                settings = replace(settings, is_compiled=computer.is_compiled)
                run.in_processes(settings, options.processes, cluster=options.cluster)
    return report


def _plan(
    videos: Source, options: ExtractionOptions, store: StoreSession, read_headers: ReadHeaders
) -> ExtractionPlan:
    """Return what there is to do; say in the store's manifest what the source says."""
    plan = plan_extraction(
        videos,
        options,
        store,
        attempts=Attempts(read_failures(store.path)),
        cache=open_header_cache(options.header_cache, root=videos.root),
        read_headers=read_headers,
    )
    _check_replaced(plan, store, videos)
    _record_manifest(store, videos)
    return plan


def _settings(
    store: StoreSession, computer: CubeComputer, options: ExtractionOptions, deadline: Deadline
) -> UnitSettings:
    cores = len(os.sched_getaffinity(0))
    return UnitSettings(
        store=str(store.path),
        source=store.source,
        weights=None if options.weights is None else str(options.weights),
        device=str(computer.device),
        batch_size=computer.batch_size,
        workers=options.workers,
        timeout_seconds=options.timeout_seconds,
        keep_partial=options.partial == "keep",
        threads=None if options.processes == 1 else max(1, cores // options.processes),
        ends_at=deadline.time_of_clock,
    )


def _record_manifest(store: StoreSession, videos: Source) -> None:
    differing = extend_store_manifest(store.path, videos.rows)
    if differing:
        logger.warning(
            "the source says otherwise of %d videos than the store's manifest.csv, which was kept; "
            "first: %s", len(differing), differing[0],
        )  # fmt: skip


def _check_replaced(plan: ExtractionPlan, store: StoreSession, videos: Source) -> None:
    """Say which videos are extracted again; refuse those of another folder with the same ids."""
    if not plan.replaced:
        return
    for video_id in plan.replaced:
        stored = store.find(video_id)
        root = videos.root if stored is None else store.header.source(stored.source).root
        if str(root) != str(videos.root):
            raise ContractError(
                f"videos below {videos.root} have ids that {store.path} has from {root} (first: "
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
