"""Where worker processes run. A new executor is a file here and a line in `EXECUTORS`.

An executor is imported when it is used, so that a command line can name them all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Protocol

from features_store.errors import UsageError, nearest_name
from features_store.paths import SCHEDULER
from pipelines.executors.work import Say, Work

DASK = "pipelines.executors.dask:DaskExecutor"
LOCAL, SCHEDULER_FILE = "local", "scheduler-file:"
EXECUTORS = {
    LOCAL: "pipelines.executors.local:LocalExecutor",
    "dask": DASK,
    "local-cuda": DASK,
    "slurm": DASK,
}
ADDRESSES = {"tcp://": "HOST:PORT", "tls://": "HOST:PORT", SCHEDULER_FILE: "PATH"}  # also DASK
PLACES = [*EXECUTORS, *(start + rest for start, rest in ADDRESSES.items())]  # for people
ON_OUR_CORES = (LOCAL, "dask")  # where processes share the cores of this machine


class Executor(AbstractContextManager["Executor"], Protocol):
    """Maps jobs to reports; made as `LocalExecutor` is."""

    @property
    def has_begun(self) -> bool:
        """Whether there are worker processes."""
        ...

    def run(self, jobs: Sequence[Any]) -> Iterator[Any]:
        """Yield the report of each job as it comes; errors of the work are raised."""
        ...


def is_needed(name: str, processes: int) -> bool:
    """Whether jobs are for an executor: one process is this one, unless another place is named."""
    return processes > 1 or name != LOCAL


def require_executor(name: str) -> None:
    """Raise `UsageError` where there is no executor of that name, or no file of its scheduler."""
    if name not in EXECUTORS and not is_address(name):
        raise UsageError(f"no `cluster` {name!r}; {nearest_name(name, PLACES)}")
    if name.startswith(SCHEDULER_FILE):
        SCHEDULER.require(name.removeprefix(SCHEDULER_FILE))  # Dask would wait for it


def is_address(name: str) -> bool:
    """Whether a name says where a scheduler is."""
    return any(name.startswith(start) and name != start for start in ADDRESSES)


def make_executor(
    name: str,
    kind: type[Work],
    settings: object,
    *,
    processes: int,
    say: Say,
    descriptors: Sequence[int] = (),
) -> Executor:
    """Return an executor; see `LocalExecutor` for its arguments.

    Args:
        name: of an executor, or where a scheduler is.
    """
    require_executor(name)
    module, _, wanted = EXECUTORS.get(name, DASK).partition(":")
    arguments: dict[str, Any] = {"processes": processes, "say": say}
    arguments |= {"descriptors": descriptors} if name == LOCAL else {"where": name}
    executor: Executor = getattr(import_module(module), wanted)(kind, settings, **arguments)
    return executor
