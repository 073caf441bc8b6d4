"""Progress for people: a bar on a terminal, plain lines in a log. Results never go through here."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.terminal import in_a_line

logger = logging.getLogger("cubereel")
LOG_SECONDS = 15.0


class ProgressLog:
    """Counts steps of a job, shows them on stderr as suits where it goes.

    Args:
        unit: what a step is, such as ``videos``.
    """

    def __init__(self, title: str, *, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done = 0
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                TimeRemainingColumn(),
                console=Console(file=sys.__stderr__),
                transient=True,
            )

    def __enter__(self) -> ProgressLog:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None:
            logger.info(
                "%s: %d of %d %s in %.1f s",
                self._title, self._done, self._total, self._unit, self._elapsed,
            )  # fmt: skip

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def step(self, note: str = "") -> None:
        """Count one more."""
        self._done += 1
        self.show(note)

    def advance(self, number: int) -> None:
        """Count what was done before."""
        self._done += number

    def reach(self, done: int, total: int) -> None:
        """Show a count and what it is of, which may not have been known before."""
        self._done, self._total = done, total
        self.show("")

    def show(self, note: str) -> None:
        """Show a note beside the count."""
        if self._bar is not None:
            self._bar.update(
                self._task, completed=self._done, total=self._total, note=in_a_line(note)
            )
        elif time.monotonic() - self._last_line > LOG_SECONDS:
            self._last_line = time.monotonic()
            logger.info(
                "%s: %d of %d %s %s", self._title, self._done, self._total, self._unit, note
            )
