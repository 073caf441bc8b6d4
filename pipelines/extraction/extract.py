"""`cubereel extract` as one function: source in, store out, safe to run again.

A run plans alone, works beside whoever joins it, and settles alone again what was sealed.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from extract.compute.computer import CubeComputer
from extract.decode.pool import DecodePool
from extract.unit import Unit
from extract.video.pictures import PictureStack
from features_store.errors import ContractError, CubereelError
from features_store.locking import share_store
from features_store.metadata import read_header, reconcile
from features_store.runs import new_run_id, write_run
from features_store.session import StoreSession
from pipelines.executors.deadline import Deadline
from pipelines.executors.registry import LOCAL, ON_OUR_CORES, is_needed
from pipelines.extraction.options import ExtractionOptions
from pipelines.extraction.plan import ExtractionPlan
from pipelines.extraction.plan_file import StoredPlan, chosen_units, load_plan
from pipelines.extraction.planning import Request, make_plan, require_turn, settle, understand
from pipelines.extraction.request import check_request
from pipelines.extraction.run import ExtractionReport, Run
from pipelines.extraction.store_header import library_versions
from pipelines.extraction.work import UnitSettings, UnitWork, open_pool
from pipelines.machine.compiling import choose_compiled, use_compiled

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
    with. With `unit` or `join` it is the store's plan that is worked on, beside other workers.

    Args:
        source: a folder of class folders, a manifest CSV, or a list of paths.
        out: the store; made, or extended where it was left.

    Raises:
        CubereelError: one of its children; nothing was changed unless videos were committed.
    """
    started, run_id = time.monotonic(), new_run_id()
    deadline = deadline or Deadline(None)
    check_request(source, options)
    store, is_planned = Path(out), options.join or options.unit is not None
    if not is_planned:
        require_turn(store, wait=options.wait)
    request = understand(Path(source), store, options)
    for note in request.videos.notes:
        logger.warning("%s", note)
    with ExitStack() as stack:
        if is_planned:
            begun = _join(store, request, options, run_id)
        else:
            begun = _begin(store, request, options, run_id, deadline, stack)
        if begun.plan is None:
            begun.report.seconds = round(time.monotonic() - started, 3)
            return begun.report
        with _timed(begun.report, started):
            _run(store, begun, begun.plan, options, deadline)
            settle(store, request.header, run_id=run_id)
    return begun.report


@dataclass
class _Begun:
    """A run whose units are known: those of a plan, if there is anything to do.

    Attributes:
        pool: of decoders, which may have started to read headers.
    """

    report: ExtractionReport
    computer: CubeComputer
    plan: StoredPlan | None = None
    units: Sequence[Unit] = ()
    pool: DecodePool | None = None


def _begin(
    out: Path,
    request: Request,
    options: ExtractionOptions,
    run_id: str,
    deadline: Deadline,
    stack: ExitStack,
) -> _Begun:
    """Make the store, or salvage what is in it, and plan what is to do."""
    computer = request.computer

    def choose(plan: ExtractionPlan) -> bool:
        nonlocal computer
        num_pictures = PictureStack.of(options.sampling, request.header.views).num_pictures
        computer = choose_compiled(
            options.compile, computer, num_frames=plan.num_frames * num_pictures,
            seconds_left=deadline.seconds_left,
        )  # fmt: skip
        return computer.is_compiled

    with StoreSession(out, request.header, run_id=run_id) as store:
        for shard in store.salvaged:
            logger.info("salvaged %s of a run that was killed", shard.name)
        settings = UnitSettings(
            store=str(out), source=store.source, workers=options.workers,
            timeout_seconds=options.timeout_seconds,
        )  # fmt: skip
        pool = open_pool(store.header, computer, settings)
        # Its processes start only when there is something to do.
        found, plan = make_plan(
            store, request, choose=choose, processes=options.processes,
            read_headers=lambda paths: stack.enter_context(pool).probe(paths),
        )  # fmt: skip
        report = ExtractionReport(
            run_id,
            str(out),
            len(request.videos.rows),
            len(found.done),
            is_compiled=computer.is_compiled,
            num_partial_before=len(found.partial),
            salvaged_shards=[shard.name for shard in store.salvaged],
            failed_before=[
                {"video_id": each.video_id, "reason": each.reason, "error": each.error}
                for each in found.failed_before
            ],
        )
    units = () if plan is None else chosen_units(plan, None)
    return _Begun(report, computer, plan, units, pool)


def _join(out: Path, request: Request, options: ExtractionOptions, run_id: str) -> _Begun:
    """Take a share of the store's plan; raise `ContractError` where it is not of this request."""
    stored = read_header(out)
    reconcile(stored, request.header, store=out)
    plan = load_plan(out, stored)
    for name, ours, theirs in (
        ("root", str(request.videos.root), plan.root),
        ("partial", options.partial, "keep" if plan.keep_partial else "drop"),
        ("compile", options.compile, "on" if plan.is_compiled else "off"),
    ):
        if ours not in (theirs, "auto"):
            raise ContractError(
                f"the plan of {out} has `{name}` {theirs}, got {ours}; give the same, or plan again"
            )
    computer = use_compiled(request.computer) if plan.is_compiled else request.computer
    units = chosen_units(plan, options.unit)
    report = ExtractionReport(
        run_id, str(out), plan.num_videos, plan.num_done, is_compiled=plan.is_compiled
    )
    if options.unit is not None:
        report.num_videos, report.num_done_before = sum(len(unit.videos) for unit in units), 0
    return _Begun(report, computer, plan if units else None, units)


def _run(
    out: Path, begun: _Begun, plan: StoredPlan, options: ExtractionOptions, deadline: Deadline
) -> None:
    is_elsewhere = options.cluster != LOCAL  # where the device is not this process's
    cores = len(os.sched_getaffinity(0)) if options.cluster in ON_OUR_CORES else None
    settings = UnitSettings(
        store=str(out.absolute()),
        source=plan.source,
        weights=None if options.weights is None else str(options.weights.absolute()),
        device=options.device if is_elsewhere else str(begun.computer.device),
        batch_size=options.batch_size if is_elsewhere else begun.computer.batch_size,
        is_compiled=plan.is_compiled,
        workers=options.workers,
        timeout_seconds=options.timeout_seconds,
        keep_partial=plan.keep_partial,
        lease_seconds=plan.lease_seconds,
        threads=None
        if options.processes == 1 or cores is None
        else max(1, cores // options.processes),
        ends_at=deadline.time_of_clock,
    )
    run = Run(begun.report, begun.units)
    if not is_needed(options.cluster, options.processes):
        computer, pool = begun.computer, begun.pool
        run.here(UnitWork(settings, computer=computer, pool=pool, deadline=deadline))
        return
    if begun.pool is not None:
        begun.pool.close()
    with share_store(out, lease_seconds=plan.lease_seconds):
        run.in_processes(settings, options.processes, cluster=options.cluster)


@contextmanager
def _timed(report: ExtractionReport, started: float) -> Iterator[None]:
    """Fill in the seconds at the end, whatever it is, and write the report."""
    try:
        yield
    except BaseException:
        report.seconds = round(time.monotonic() - started, 3)
        # What ended the run says more than a report that cannot be written.
        with suppress(OSError, CubereelError):
            _write_report(report)
        raise
    report.seconds = round(time.monotonic() - started, 3)
    _write_report(report)


def _write_report(report: ExtractionReport) -> None:
    document = asdict(report) | {
        "verb": "extract",
        "versions": library_versions(),
        "failure_counts": Counter(failure["reason"] for failure in report.failed),
    }
    write_run(Path(report.store), report.run_id, document)
