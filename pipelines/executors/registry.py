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
}

LOCAL = "local"


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
    if name not in EXECUTORS:
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
    module, _, wanted = EXECUTORS[name].partition(":")
    executor: Executor = getattr(import_module(module), wanted)(
        kind, settings, processes=processes, say=say, descriptors=descriptors
    )
    return executor
