"""Where the fits of a run are done: here, or side by side in worker processes."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.executors.registry import LOCAL, is_needed, make_executor
from pipelines.training.planned import FitSettings
from pipelines.training.work import FitsDone, FitWork
from train.heads import HeadChoice
from train.heads.names import MODULES
from train.heads.own import own_name
from train.protocol.jobs import FitGroup, FitJob, group_jobs

logger = logging.getLogger("cubereel")
WORTH_SECONDS = 20.0  # of fitting that is left, from which on it pays to start processes
MOST_TOGETHER = 16  # fits from one read: heads and optimisers of all of them are in memory
PROCESS_BYTES = 2 * 2**30  # of the machine's memory, for each of them


class FitExecutor:
    """Does jobs; a context manager.

    Args:
        work: of this process.
        cluster: where worker processes run.
        processes: worker processes; with 1 all is done here. None begins here and goes on in one
            process for each core as soon as a fit shows that this pays; a cluster begins at once.
    """

    def __init__(
        self, work: FitWork, settings: FitSettings, *, processes: int | None, cluster: str
    ) -> None:
        self._work = work
        self._is_patient = processes is None and cluster == LOCAL
        self._num_processes = processes or most_processes(settings)
        here = f"in {self._num_processes} processes"
        self._where = here if cluster == LOCAL else f"by workers of {cluster}"
        if cluster != LOCAL:
            # Other machines have neither the pages nor this folder.
            store, run = (str(Path(path).absolute()) for path in (settings.store, settings.run))
            weights = None if settings.weights is None else str(Path(settings.weights).absolute())
            settings = replace(settings, pages=None, store=store, run=run, weights=weights)
        descriptors = () if settings.pages is None else (settings.pages,)
        self._is_needed = is_needed(cluster, self._num_processes)
        self._workers = make_executor(
            cluster,
            FitWork,
            settings,
            processes=self._num_processes,
            say=lambda _: None,
            descriptors=descriptors,
        )
        self._last_seconds = 0.0  # of the last fits here

    def __enter__(self) -> FitExecutor:
        with ExitStack() as stack:
            stack.enter_context(self._work)
            stack.enter_context(self._workers)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def run(self, jobs: Sequence[FitJob]) -> Generator[FitsDone, None, None]:
        """Do jobs, those that see the same videos together; yield which are done."""
        num_beside = self._num_processes if self._is_needed else 1
        most = max(1, min(MOST_TOGETHER, -(-len(jobs) // num_beside)))
        left = deque(group_jobs(jobs, most=most))
        yield from self._work.run(self._to_do_here(left), lambda _: None)
        if left:
            if not self._workers.has_begun:
                logger.info("fitting goes on %s", self._where)
            yield from self._workers.run(list(left))

    def _to_do_here(self, left: deque[FitGroup]) -> Iterator[FitGroup]:
        """Yield the jobs that this process is to do, and take them away."""
        while left and self._is_here(len(left)):
            started = time.monotonic()
            yield left.popleft()
            self._last_seconds = time.monotonic() - started

    def _is_here(self, num_left: int) -> bool:
        if not self._is_needed:
            return True
        is_short = num_left == 1 or num_left * self._last_seconds < WORTH_SECONDS
        return self._is_patient and not self._workers.has_begun and is_short


def most_processes(settings: FitSettings) -> int:
    """Return how many processes may fit side by side if nobody says.

    One on a GPU, and where a head is known to this process alone; else one for each core, as far as
    the memory reaches.
    """
    names = [HeadChoice.parse(row.head).name for row in settings.rows]
    if settings.device != "cpu" or any(n not in MODULES and not own_name(n) for n in names):
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // PROCESS_BYTES))
