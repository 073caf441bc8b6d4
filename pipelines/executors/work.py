"""Work: what takes jobs and reports on each, in this process or in another one of any machine.

Settings, jobs, reports and events are dataclasses that `features_store.plain` can write, so that
work is the same wherever it is done. An executor maps jobs to reports and knows nothing else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, ClassVar

from features_store.errors import ContractError

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


def name_of(kind: type[Work]) -> str:
    """Return the name by which another process finds a kind of work: ``package.module:Class``."""
    return f"{kind.__module__}:{kind.__qualname__}"


def find_work(name: str) -> type[Work]:
    """Return the kind of work of a name; raise `ContractError` where it names something else."""
    module, _, wanted = name.partition(":")
    kind = getattr(import_module(module), wanted)
    if not (isinstance(kind, type) and issubclass(kind, Work)):
        raise ContractError(f"{name} is no kind of work")
    return kind
