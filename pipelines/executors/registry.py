"""Where worker processes run. A new executor is a file here and a line in `EXECUTORS`.

An executor is imported when it is used, so that a command line can name them all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Protocol

from features_store.errors import UsageError, nearest_name
from pipelines.executors.work import Say, Work

EXECUTORS = {
    "local": "pipelines.executors.local:LocalExecutor",
    "dask": "pipelines.executors.dask:DaskExecutor",
    "local-cuda": "pipelines.executors.dask:DaskExecutor",
    "slurm": "pipelines.executors.dask:DaskExecutor",
    # Schedulers that are there; `dask_clusters.ADDRESSES`.
    "tcp://HOST:PORT": "pipelines.executors.dask:DaskExecutor",
    "scheduler-file:PATH": "pipelines.executors.dask:DaskExecutor",
}

LOCAL = "local"
ADDRESSES = {
    "tcp": "tcp://HOST:PORT",
    "tls": "tcp://HOST:PORT",
    "scheduler-file": "scheduler-file:PATH",
}


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
    """Raise `UsageError` where there is no executor of that name."""
    if _kind_of(name) not in EXECUTORS:
        raise UsageError(f"no `cluster` {name!r}; {nearest_name(name, list(EXECUTORS))}")


def make_executor(
    name: str,
    kind: type[Work],
    settings: object,
    *,
    processes: int,
    say: Say,
    descriptors: Sequence[int] = (),
) -> Executor:
    """Return an executor; see `LocalExecutor` for its arguments."""
    require_executor(name)
    module, _, wanted = EXECUTORS[_kind_of(name)].partition(":")
    arguments: dict[str, Any] = {"processes": processes, "say": say}
    arguments |= {"descriptors": descriptors} if name == LOCAL else {"where": name}
    executor: Executor = getattr(import_module(module), wanted)(kind, settings, **arguments)
    return executor


def _kind_of(name: str) -> str:
    """Return the name under which a cluster stands in the table."""
    head, colon, rest = name.partition(":")
    return ADDRESSES.get(head, name) if colon and rest.strip("/") else name
