"""On a Dask worker: the work is set up once, at the first job, and does job after job.

Settings, jobs, reports and events travel as plain data; a network is never sent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from features_store.errors import ContractError, MachineError, UsageError
from features_store.leases import Lease
from features_store.plain import from_plain, to_plain
from pipelines.executors.messages import Failed
from pipelines.executors.work import Work, find_work

logger = logging.getLogger("cubereel")
SAY_SECONDS = 1.0  # between two messages of a worker, so that a scheduler can have hundreds
SET_UP_SECONDS = 10.0
GPU_LEASE_SECONDS = 60.0


class WorkPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """One kind of work on one worker.

    Args:
        name: of this run's work, which no other run has; also the topic of its messages.
        work: as ``package.module:Class``.
        settings: of the work, plain.
    """

    def __init__(self, name: str, work: str, settings: Any) -> None:
        self.name = name
        self._work_name, self._settings = work, settings
        self._version = version("cubereel")

    def setup(self, worker: Worker) -> None:
        """Be there; the work is set up later, so that a worker that cannot do it says why."""
        self._worker = worker
        self._one_at_a_time = threading.Lock()
        self._saying = threading.Lock()
        self._stack = ExitStack()
        self._work: Work | None = None
        self._is_stopped = False
        self._waiting: list[dict[str, Any]] = []
        self._num_sent = 0
        self._last_sent = 0.0

    async def teardown(self, worker: Worker) -> None:
        """Give back what was set up, once the job in work has come to an end in good order."""
        self._is_stopped = True
        await asyncio.to_thread(self._close)
        if self._waiting:  # of a job that was broken off
            worker.log_event(self.name, {"pid": os.getpid(), "said": self._waiting})

    def run(self, job: Any) -> dict[str, Any]:
        """Do a job; return its report, or the error of the work, and what was not said yet."""
        with self._one_at_a_time:
            handler = _Listening(self)
            logger.addHandler(handler)
            try:
                work = self._work or self._set_up()
                (report,) = work.run(iter([from_plain(work.Job, job)]), self._say)
                result = {"report": to_plain(report)}
            except Exception as err:  # whatever it is, the coordinator raises it
                result = {"failed": to_plain(Failed.by(err))}
            finally:
                logger.removeHandler(handler)
        with self._saying:
            rest, self._waiting = self._waiting, []
        return {**result, "said": rest, "num_sent": self._num_sent, "pid": os.getpid()}

    def say(self, message: dict[str, Any]) -> None:
        """Have the coordinator know of something, within a second or with the job's report."""
        with self._saying:
            self._waiting.append(message)
            if time.monotonic() - self._last_sent < SAY_SECONDS:
                return
            messages, self._waiting = self._waiting, []
            self._last_sent = time.monotonic()
            self._num_sent += 1
        self._worker.log_event(self.name, {"pid": os.getpid(), "said": messages})

    def _say(self, event: object) -> None:
        if self._is_stopped:
            raise MachineError("the run was stopped")
        self.say({"kind": type(event).__name__, "event": to_plain(event)})

    def _set_up(self) -> Work:
        if version("cubereel") != self._version:
            raise ContractError(
                f"worker {self._worker.address} has cubereel {version('cubereel')}, this is "
                f"{self._version}; use the same version everywhere"
            )
        if self._worker.state.nthreads != 1:
            raise UsageError(
                f"worker {self._worker.address} has {self._worker.state.nthreads} threads; start "
                "workers of one thread each, as many as there are GPUs or cores to spare"
            )
        logger.setLevel(logging.WARNING)
        kind = find_work(self._work_name)
        settings = self._with_gpu(from_plain(kind.Settings, self._settings))
        self._work = self._stack.enter_context(kind(settings))  # type: ignore[call-arg]
        return self._work

    def _with_gpu(self, settings: Any) -> Any:
        """Return settings with a GPU of this host that no other worker has, if it has several."""
        # Where a run begins, `auto` may have become the first GPU already.
        if getattr(settings, "device", "cpu") not in ("auto", "cuda", "cuda:0"):
            return settings
        import torch

        if (number := torch.cuda.device_count()) < 2:
            return settings
        leases = gpu_leases(Path(tempfile.gettempdir()), number)
        for gpu, lease in enumerate(leases):
            if lease.take():
                self._stack.callback(lease.release)
                return replace(settings, device=f"cuda:{gpu}")
        raise MachineError(
            f"all {number} GPUs of {os.uname().nodename} have a worker; start one for each GPU"
        )

    def _close(self) -> None:
        with self._one_at_a_time:
            self._stack.close()
            self._work = None


def gpu_leases(folder: Path, number: int) -> list[Lease]:
    """Return the leases by which the workers of a host share its GPUs."""
    names = [f"cubereel-{os.getuid()}-gpu{gpu}.lease" for gpu in range(number)]
    return [Lease(folder / name, seconds=GPU_LEASE_SECONDS) for name in names]


def run_job(name: str, job: Any) -> Mapping[str, Any]:
    """Do a job on the worker that this is called on."""
    begun = time.monotonic()
    while (plugin := get_worker().plugins.get(name)) is None:
        # A worker that was started again may be given a job before it is set up for the run.
        if time.monotonic() - begun > SET_UP_SECONDS:  # it is what is left of one that was stopped
            failed = to_plain(Failed.by(MachineError("the run was stopped")))
            return {"failed": failed, "said": [], "num_sent": 0, "pid": os.getpid()}
        time.sleep(0.05)
    return dict(plugin.run(job))


class _Listening(logging.Handler):
    """Sends log lines to the coordinator, which says them as its own."""

    def __init__(self, plugin: WorkPlugin) -> None:
        super().__init__(logging.WARNING)
        self._plugin = plugin

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line."""
        self._plugin.say({"level": record.levelno, "text": record.getMessage()})
