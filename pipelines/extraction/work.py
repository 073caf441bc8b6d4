"""Extracting units as work: what a process sets up once, and how it does unit after unit.

All that computes a number is in the store's header; settings are about this machine and this run.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from dataclasses import dataclass
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
from features_store.format.records import VideoRecord
from features_store.ledger import append_failure, new_failure
from features_store.metadata import StoreHeader, read_header
from features_store.session import StoreSession
from features_store.shards.sealing import NewShard
from features_store.spec import require_same_spec
from features_store.unit_writer import UnitWriter
from pipelines.executors.deadline import Deadline
from pipelines.executors.work import Say, Work
from pipelines.extraction.store_header import build_spec
from pipelines.machine.compiling import use_compiled
from pipelines.machine.devices import build_computer, decoder_of, launch_at_once, require_decoder

logger = logging.getLogger("cubereel")
BATCHES_AHEAD = 8  # that each decoder may have in its ring


@dataclass(frozen=True, kw_only=True)
class UnitSettings:
    """What a process must know to extract units of a store, beside the store itself.

    Attributes:
        store: its folder.
        source: id of the source that the videos are from.
        is_compiled: whether the backbone runs compiled, which was found out before.
        keep_partial: whether the frames of a video that breaks off are kept.
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
    threads: int | None = None
    ends_at: float | None = None


@dataclass(frozen=True)
class FramesWritten:
    """So many frames were written."""

    num_frames: int


@dataclass(frozen=True)
class VideoDone:
    """A video is done: stored, or failed."""

    is_stored: bool


@dataclass(frozen=True)
class VideoFailed:
    """A video failed or broke off: its line in the ledger is there."""

    video_id: str
    outcome: str
    reason: str
    error: str


class UnitWork(Work):
    """Extracts units into partial shards, and hands those over that are whole.

    Args:
        computer, pool, deadline: those of the settings, where this process has them already.
    """

    Settings, Job, Report = UnitSettings, Unit, UnitReport
    Events = (FramesWritten, VideoDone, VideoFailed, NewShard)

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
        self._pool.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """End the decoders."""
        self._pool.close()

    def run(self, jobs: Iterable[Unit], say: Say) -> Generator[UnitReport, None, None]:
        """Extract units; those for which there is no time left are reported as not begun."""
        self._say = say
        units = iter(jobs)
        extractor = UnitExtractor(
            self._views, self._open_unit, keep_partial=self._settings.keep_partial,
            on_frames=lambda number: say(FramesWritten(number)),
            on_failure=self._on_failure, on_video=self._on_video,
        )  # fmt: skip
        yield from extractor.run(units, self._pool, may_begin=self._deadline.may_begin)
        for unit in units:
            yield UnitReport(unit.id)

    def _open_unit(self, unit: Unit) -> UnitWriter:
        self._unit = unit
        return UnitWriter(
            self._store,
            self._header,
            unit.name,
            source=self._settings.source,
            rows=unit.num_frames,
            video_ids=[job.video_id for job in unit.videos],
            publish=self._say,
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
        logger.warning("%s %s: %s", line.outcome, job.video_id, error)
        self._say(VideoFailed(job.video_id, line.outcome, error.reason, str(error)))

    def _on_video(self, record: VideoRecord | None) -> None:
        self._deadline.finished()
        self._say(VideoDone(record is not None))


def run_unit(unit: Unit, settings: UnitSettings, store: StoreSession) -> UnitReport:
    """Extract one unit into a store that this process has open, all set up for it alone."""

    def take(event: Any) -> None:
        if isinstance(event, NewShard):
            store.publish(event)

    with UnitWork(settings) as work:
        (report,) = work.run([unit], take)
    return report


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
        store=settings.store,
    )
    return use_compiled(computer) if settings.is_compiled else computer
