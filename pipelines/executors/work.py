"""Work: what takes jobs and reports on each, in this process or in another one of any machine.

Settings, jobs, reports and events are dataclasses that `features_store.plain` can write, so that
work is the same wherever it is done. An executor maps jobs to reports and knows nothing else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar

Say = Callable[[Any], None]


class Work(AbstractContextManager["Work"]):
    """What is set up once in a process and then does job after job there; a context manager.

    A kind of work is a subclass; an instance is made of `Settings` alone.

    Attributes:
        Settings, Job, Report: their types.
        Events: types of what is said while a job is done.
    """

    Settings: ClassVar[type]
    Job: ClassVar[type]
    Report: ClassVar[type]
    Events: ClassVar[tuple[type, ...]] = ()

    @abstractmethod
    def run(self, jobs: Iterator[Any], say: Say) -> Generator[Any, None, None]:
        """Do jobs; yield one report for each of them.

        Args:
            jobs: taken only when there is time for another one, so that jobs go where it is.
            say: called with what happens meanwhile, from any thread.
        """

    def __exit__(self, *_: object) -> None:
        """Give back what was set up."""
