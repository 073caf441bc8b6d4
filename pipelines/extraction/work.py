"""Extracting units as work: what a process sets up once, and how it does unit after unit.

All that computes a number is in the store's header; settings are about this machine and this run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from extract.backbones import load_backbone
from extract.compute.computer import CubeComputer
from extract.compute.views import ViewComputer
from extract.decode.pool import DecodePool, DecodeSettings
from extract.extractor import UnitExtractor, VideoFailure
from extract.unit import Unit, UnitReport
from extract.video.pictures import PictureStack
from features_store.appending import Appender
from features_store.errors import MachineError
from features_store.format.records import VideoRecord
from features_store.ledger import append_failure, new_failure
from features_store.locking import share_store
from features_store.metadata import StoreHeader, is_store, read_header
from features_store.spec import require_same_spec
from features_store.unit_writer import UnitWriter
from pipelines.executors.deadline import Deadline
from pipelines.executors.work import Say, Work
from pipelines.extraction.claimed import ClaimedUnit, Claims, VideoDone, VideoFailed
from pipelines.extraction.options import Partial
from pipelines.extraction.store_header import build_spec
from pipelines.machine.compiling import use_compiled
from pipelines.machine.devices import build_computer, decoder_of, launch_at_once, require_decoder

logger = logging.getLogger("cubereel")
HELD_SECONDS = 0.5  # between two looks at units that others work on
BATCHES_AHEAD = 8  # that each decoder may have in its ring


@dataclass(frozen=True, kw_only=True)
class UnitSettings:
    """What a process must know to extract units of a store, beside the store itself.

    Attributes:
        store: its folder.
        source: id of the source that the videos are from.
        is_compiled: whether the backbone runs compiled, which was found out before.
        keep_partial: whether the frames of a video that breaks off are kept.
        lease_seconds: as the plan says.
        threads: that torch may compute with; None leaves it to torch.
        ends_at: time of the clock, in seconds, at which no work may be left; None if never.
    """

    store: str
    source: str
    weights: str | None = None
    device: str = "auto"
    batch_size: int | None = None
    is_compiled: bool = False
    workers: int = 1
    timeout_seconds: float = 120.0
    keep_partial: bool = False
    lease_seconds: float = 60.0
    threads: int | None = None
    ends_at: float | None = None


@dataclass(frozen=True)
class FramesWritten:
    """So many frames were written."""

    num_frames: int


class UnitWork(Work):
    """Extracts units of a store's plan, beside other workers: claims, writes, seals and lists them.

    Args:
        computer, pool, deadline: those of the settings, where this process has them already.
    """

    Settings, Job, Report = UnitSettings, Unit, UnitReport
    Events = (FramesWritten, VideoDone, VideoFailed)

    def __init__(
        self,
        settings: UnitSettings,
        *,
        computer: CubeComputer | None = None,
        pool: DecodePool | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self._settings, self._store = settings, Path(settings.store)
        self._header = read_header(self._store)
        self._appender = Appender(self._store, spec_digest=self._header.spec.digest)
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        computer = computer or _load_computer(self._header, settings)
        pictures = PictureStack.of(self._header.spec.sampling, self._header.views)
        self._pool = pool or open_pool(self._header, computer, settings)
        # While a shard is written nothing is encoded yet.
        written = getattr(torch, self._header.encoding.written.name)
        self._views = ViewComputer(
            launch_at_once(computer.cubes_as(written)),
            stack=pictures,
            has_diff_cubes=self._header.has_diff_cubes,
        )
        self._deadline = deadline or Deadline.until(settings.ends_at)

    def __enter__(self) -> UnitWork:
        with ExitStack() as stack:
            lease_seconds = self._settings.lease_seconds
            stack.enter_context(share_store(self._store, lease_seconds=lease_seconds))
            stack.enter_context(self._pool)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        """End the decoders."""
        self._stack.__exit__(*error)

    def run(self, jobs: Iterable[Unit], say: Say) -> Generator[UnitReport, None, None]:
        """Extract units; those for which there is no time left are reported as not begun.

        Those that others work on come last: they are waited for, and taken over if need be.

        Raises:
            MachineError: the store is not where it was.
        """
        self._say = say
        partial: Partial = "keep" if self._settings.keep_partial else "drop"
        claims = Claims(
            self._store, self._header, self._appender,
            lease_seconds=self._settings.lease_seconds, partial=partial, say=say,
        )  # fmt: skip
        try:
            yield from self._run(iter(jobs), claims)
        except FileNotFoundError as err:
            if is_store(self._store):
                raise
            raise MachineError(
                f"{self._store} is gone: it was moved, or its disk is; run the same command again "
                "where it is"
            ) from err
        finally:
            claims.release()

    def _run(self, units: Iterator[Unit], claims: Claims) -> Iterator[UnitReport]:
        yield from self._attempt(units, claims)
        while claims.held and not self._deadline.is_near:
            held, claims.held = claims.held, []
            yield from self._attempt(iter(held), claims)
            if claims.held:
                time.sleep(HELD_SECONDS)
        for unit in chain(claims.held, units):
            yield UnitReport(unit.name)

    def _attempt(self, units: Iterator[Unit], claims: Claims) -> Iterator[UnitReport]:
        """Extract those units that can be claimed, one stream of videos over most of them."""
        claimed: dict[str, ClaimedUnit] = {}
        in_chunks: list[ClaimedUnit] = []
        for report in self._extract(self._stream(units, claims, claimed, in_chunks), claimed):
            yield self._end(claimed.pop(report.unit), [report])
            yield from _drained(claims.found_done)
        for each in in_chunks:
            claimed = {each.unit.name: each}
            reports: list[UnitReport] = []
            for chunk in each.chunks:
                each.claim.note_chunk([job.video_id for job in chunk])
                reports += self._extract(iter([replace(each.unit, videos=chunk)]), claimed)
            yield self._end(each, reports)
        yield from _drained(claims.found_done)

    def _stream(
        self,
        units: Iterator[Unit],
        claims: Claims,
        claimed: dict[str, ClaimedUnit],
        in_chunks: list[ClaimedUnit],
    ) -> Iterator[Unit]:
        for unit in units:
            taken = claims.take(unit)
            if taken is not None and taken.chunks:
                in_chunks.append(taken)
            elif taken is not None:
                claimed[unit.name] = taken
                yield taken.unit

    def _extract(
        self, units: Iterator[Unit], claimed: Mapping[str, ClaimedUnit]
    ) -> Iterator[UnitReport]:
        extractor = UnitExtractor(
            self._views, lambda unit: self._open_unit(claimed[unit.name]),
            keep_partial=self._settings.keep_partial,
            on_frames=lambda number: self._say(FramesWritten(number)),
            on_failure=self._on_failure, on_video=self._on_video,
        )  # fmt: skip
        return extractor.run(units, self._pool, may_begin=self._deadline.may_begin)

    def _end(self, claimed: ClaimedUnit, reports: Sequence[UnitReport]) -> UnitReport:
        report = claimed.report(reports)
        claimed.release(report)
        return report

    def _open_unit(self, claimed: ClaimedUnit) -> UnitWriter:
        self._unit = claimed.unit
        return UnitWriter(
            self._store,
            self._header,
            claimed.claim.attempt,
            source=self._settings.source,
            rows=claimed.unit.num_frames,
            video_ids=[job.video_id for job in claimed.unit.videos],
            publish=claimed.parts.publish,
            on_lost=claimed.parts.say_lost,
        )

    def _on_failure(self, failure: VideoFailure) -> None:
        job, error = failure.job, failure.error
        line = new_failure(
            video_id=job.video_id,
            path=job.file,
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
        append_failure(self._store, self._unit.name, line)
        logger.debug("%s %s: %s", line.outcome, job.video_id, error)
        self._say(VideoFailed(job.video_id, line.outcome, error.reason, str(error)))

    def _on_video(self, record: VideoRecord | None) -> None:
        self._deadline.finished()
        self._say(VideoDone(record is not None))


def run_unit(unit: Unit, settings: UnitSettings) -> UnitReport:
    """Extract one unit of a store's plan, all set up for it alone."""
    with UnitWork(settings) as work:
        (report,) = work.run([unit], lambda _: None)
    return report


def _drained(reports: list[UnitReport]) -> Iterator[UnitReport]:
    while reports:
        yield reports.pop(0)


def open_pool(header: StoreHeader, computer: CubeComputer, settings: UnitSettings) -> DecodePool:
    """Return the decoders that a store's videos are decoded by; they start when it is entered."""
    pictures = PictureStack.of(header.spec.sampling, header.views)
    decoder = decoder_of(header.spec.decoder)
    return DecodePool(
        DecodeSettings(
            preprocessing=computer.preprocessing,
            sampling=header.spec.sampling,
            stack=pictures,
            decoder=decoder,
            device=require_decoder(decoder, computer.device),
            slots=max(16, BATCHES_AHEAD * computer.batch_size // pictures.num_pictures),
        ),
        workers=settings.workers,
        timeout_seconds=settings.timeout_seconds,
    )


def _load_computer(header: StoreHeader, settings: UnitSettings) -> CubeComputer:
    """Return what computes a store's cubes.

    Raises:
        SpecMismatchError: this machine has other weights, or other pixels come of it.
    """
    spec, layers = header.spec, [layer.name for layer in header.layers]
    weights = None if settings.weights is None else Path(settings.weights)
    network = load_backbone(spec.backbone, weights=weights, layers=layers)
    computer = build_computer(
        network, fit=spec.preprocessing.fit, precision=spec.precision, device=settings.device,
        batch_size=settings.batch_size,
    )  # fmt: skip
    require_same_spec(
        spec,
        build_spec(computer, network, spec.sampling, decoder_of(spec.decoder)),
        of=settings.store, than="comes of this machine",
        advice="give its workers the weights and the versions that it was made with",
    )  # fmt: skip
    return use_compiled(computer) if settings.is_compiled else computer
