"""From a request to a plan in a store: what the store's spec is, and what there is to do."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from extract.backbones import load_backbone
from extract.compute.computer import CubeComputer
from features_store.checks import refuse_faults
from features_store.errors import BusyError, ContractError
from features_store.ledger import read_failures
from features_store.locking import require_free
from features_store.manifest import extend_store_manifest, read_store_manifest
from features_store.metadata import StoreHeader, is_store, read_header
from features_store.runs import new_run_id
from features_store.session import StoreSession
from pipelines.extraction.header_cache import open_header_cache
from pipelines.extraction.headers import ReadHeaders, check_said, probe_in_workers
from pipelines.extraction.options import StoreOptions
from pipelines.extraction.plan import ExtractionPlan, plan_extraction, row_bytes_of
from pipelines.extraction.plan_file import StoredPlan, new_plan, write_plan
from pipelines.extraction.retries import Attempts
from pipelines.extraction.sources import Source, read_source
from pipelines.extraction.store_header import new_header, precision_for
from pipelines.extraction.twins import find_twins, say_twins
from pipelines.machine.devices import build_computer, require_decoder

logger = logging.getLogger("cubereel")
WAIT_SECONDS = 2.0  # between two tries to have a store alone


@dataclass(frozen=True)
class Request:
    """What an extraction is of, and what computes it here.

    Attributes:
        header: of the store, as it is made or extended.
    """

    source: Path
    options: StoreOptions
    videos: Source
    computer: CubeComputer
    header: StoreHeader


def understand(source: Path, out: Path, options: StoreOptions) -> Request:
    """Read the source and load the network; nothing is written.

    Raises:
        CubereelError: one of its children.
    """
    videos = read_source(source, root=options.root)
    check_said(videos.rows)
    if is_store(out):  # the source may spell a class in another way than the store does
        refuse_faults([*read_store_manifest(out).values(), *videos.rows], where=out)
    network = load_backbone(options.backbone, weights=options.weights, layers=options.layers)
    stored = read_header(out) if is_store(out) else None
    computer = build_computer(
        network, fit=options.fit, precision=precision_for(stored, options), device=options.device,
        batch_size=options.batch_size,
    )  # fmt: skip
    require_decoder(options.decoder, computer.device)  # before anything is written
    header = new_header(computer, network, options, root=videos.root, stored=stored)
    return Request(source, options, videos, computer, header)


def require_turn(out: Path, *, wait: bool) -> None:
    """Return when nobody else writes a store.

    Raises:
        BusyError: somebody does, and is not to be waited for.
    """
    is_first = True
    while is_store(out):
        try:
            return require_free(out)
        except BusyError as err:
            if not wait:
                raise BusyError(
                    f"{err}; `join` makes this one more of its workers, `wait` waits"
                ) from err
            if is_first:
                logger.info("waiting: %s", err)
                is_first = False
            time.sleep(WAIT_SECONDS)
    return None


def make_plan(
    store: StoreSession,
    request: Request,
    *,
    read_headers: ReadHeaders,
    choose: Callable[[ExtractionPlan], bool],
    processes: int = 1,
    frame_seconds: float | None = None,
) -> tuple[ExtractionPlan, StoredPlan | None]:
    """Compare the source with the store; write what there is to do, if there is anything.

    Args:
        choose: says whether networks run compiled.
    """
    options, videos = request.options, request.videos
    plan = plan_extraction(
        videos,
        options,
        store,
        processes=processes,
        attempts=Attempts(read_failures(store.path)),
        cache=open_header_cache(options.header_cache, root=videos.root),
        read_headers=read_headers,
        frame_seconds=frame_seconds,
    )
    _check_replaced(plan, store, videos)
    _record_manifest(store, videos, request.source)
    jobs = [job for unit in plan.units for job in unit.videos]
    if twins := find_twins(jobs, store) if jobs else []:
        logger.warning("%s", say_twins(twins))
    if not plan.units:
        return plan, None
    stored = new_plan(
        plan.units, root=videos.root, id=store.run_id, spec_digest=store.header.spec.digest,
        source=store.source, num_videos=len(videos.rows), num_done=len(plan.done),
        is_compiled=choose(plan), keep_partial=options.partial == "keep",
        lease_seconds=options.lease_seconds, row_bytes=row_bytes_of(store.header.arrays),
    )  # fmt: skip
    write_plan(store.path, stored)
    return plan, stored


def plan_store(
    source: Path, out: Path, options: StoreOptions, *, frame_seconds: float | None
) -> StoredPlan | None:
    """Make a store, or take one, and write the plan of what is to be extracted into it.

    Args:
        frame_seconds: that a worker takes for a frame; None where that was not measured.

    Returns:
        The plan; None where nothing is to do.

    Raises:
        CubereelError: one of its children.
    """
    require_turn(out, wait=options.wait)
    request = understand(source, out, options)
    with StoreSession(out, request.header, run_id=new_run_id()) as store:
        _, plan = make_plan(
            store,
            request,
            read_headers=partial(probe_in_workers, workers=options.workers),
            choose=lambda _: options.compile == "on",
            frame_seconds=frame_seconds,
        )
    return plan


def settle(out: Path, header: StoreHeader, *, run_id: str) -> None:
    """List what is sealed and bring the index up to date, unless others still work on the store.

    The last one who leaves does it.
    """
    with suppress(BusyError), StoreSession(out, header, run_id=run_id):
        pass


def _record_manifest(store: StoreSession, videos: Source, source: Path) -> None:
    differing = extend_store_manifest(store.path, videos.rows, columns=videos.columns - {"path"})
    if differing:
        logger.warning(
            "%s says otherwise of %d videos than the store's manifest.csv, which was kept; first: "
            "%s; 'cubereel manifest apply %s %s' shows it and takes it over",
            source, len(differing), differing[0], shlex.quote(str(source)),
            shlex.quote(str(store.path)),
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
