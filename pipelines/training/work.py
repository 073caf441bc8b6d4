"""Fitting heads as work: what a process sets up once, and how it does fit after fit."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from extract.compute.machine import keep_freed_memory
from features_store.store import Store
from pipelines.executors.work import Say, Work
from pipelines.machine.devices import choose_device
from pipelines.training.planned import FitSettings, PlannedHead, Table
from train.data.pages import SharedPages
from train.fitting.checkpoint import save_checkpoint
from train.fitting.condensed import condensed_for
from train.protocol.jobs import FitGroup
from train.protocol.run_folder import RunFolder
from train.protocol.runs import Labelled, run_fits


@dataclass(frozen=True)
class FitsDone:
    """Jobs are done: their records are in the run folder."""

    group: FitGroup


class FitWork(Work):
    """Does the jobs of a run, and keeps each in the run folder.

    On a CPU a fit computes in one thread: its result depends neither on the number of processes nor
    on that of cores.

    Args:
        store, table: those of the settings, where this process has them already.
    """

    Settings, Job, Report = FitSettings, FitGroup, FitsDone

    def __init__(
        self, settings: FitSettings, *, store: Store | None = None, table: Table | None = None
    ) -> None:
        self._stack = ExitStack()
        self._is_on_cpu = choose_device(settings.device).type == "cpu"
        self._store = store or self._stack.enter_context(
            Store(settings.store, revision=settings.revision)
        )
        pages = None if settings.pages is None else SharedPages(settings.pages)
        self._table = table or Table.load(self._store, settings, pages)
        self._folder = RunFolder(Path(settings.run))
        self._condensed: tuple[str, dict[str | None, Labelled]] = ("", {})

    def __enter__(self) -> FitWork:
        keep_freed_memory()
        if self._is_on_cpu:
            self._stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store, and let torch compute as before."""
        self._table.loaded.data.clips.close()
        self._stack.close()

    def run(self, jobs: Iterable[FitGroup], say: Say) -> Generator[FitsDone, None, None]:
        """Do jobs; those of one head together, since their clips may be condensed for it."""
        for group in jobs:
            yield self._do(group)

    def _do(self, group: FitGroup) -> FitsDone:
        head, split = self._table.heads[group.first.head], self._table.splits[group.first.fold]
        data = self.data_of(head, group.first.candidate.layer)
        done = run_fits(group, head.choice, data, split, head.config)
        for job, (fitted, fit) in zip(group.jobs, done, strict=True):
            if job.inner is None:
                checkpoint = self._table.checkpoint(
                    job, self._store, probs_of=lambda other: self._folder.read(other).probs
                )
                place = self._folder.checkpoint(job)
                save_checkpoint(place, fitted, checkpoint, below=self._folder.path)
            self._folder.keep(job, fit)
        return FitsDone(group)

    def data_of(self, head: PlannedHead, layer: str | None) -> Labelled:
        """Return a head's videos, their clips condensed if it needs no more; for one head."""
        if self._condensed[0] != head.label:
            self._condensed = head.label, {}
        of_layers = self._condensed[1]
        if layer not in of_layers:
            data = head.data_of(layer)
            built = head.choice.build(data.clips, len(data.classes))
            with torch.no_grad():
                clips = condensed_for(data.clips, built, batch_size=head.config.batch_size)
            of_layers[layer] = replace(data, clips=clips)
        return of_layers[layer]
