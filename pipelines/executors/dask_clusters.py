"""Dask clusters: those that are started for a run, and those that are there.

One worker process of one thread each: what it does fills a GPU, or its share of the cores.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from features_store.errors import MachineError, UsageError
from pipelines.executors.registry import SCHEDULER_FILE, is_address
from pipelines.executors.walltime import lifetime_of

logger = logging.getLogger("cubereel")
CONNECT_SECONDS = 30.0
# A worker that dies has one job, and no other is blamed: the work counts deaths itself. Idle
# workers take jobs only when they are free, so that those that come late get some.
CONFIGURATION: Mapping[str, Any] = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.worker-ttl": "10 minutes",  # decoding holds the interpreter at times
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,  # mapped stores look like memory
    "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS:.0f}s",
}


@contextmanager
def open_client(where: str, processes: int) -> Iterator[Any]:
    """Connect to a cluster, or start one with so many workers, and end it with the run.

    Raises:
        MachineError: it cannot be reached, or started.
        UsageError: it needs something that is not installed.
    """
    import dask
    from distributed import Client

    with ExitStack() as stack:
        stack.enter_context(dask.config.set(dict(CONFIGURATION)))
        logging.getLogger("distributed").setLevel(logging.ERROR)
        try:
            if where.startswith(SCHEDULER_FILE):
                arguments = {"scheduler_file": where.removeprefix(SCHEDULER_FILE)}
            elif is_address(where):
                arguments = {"address": where}
            else:
                arguments = {"address": stack.enter_context(CLUSTERS[where](processes))}
            client = stack.enter_context(
                Client(**arguments, set_as_default=False, timeout=CONNECT_SECONDS)
            )
        except (OSError, ValueError) as err:
            raise MachineError(f"cannot reach the scheduler {where}: {err}") from err
        logger.info("Dask's dashboard: %s", client.dashboard_link)
        yield client


def _on_this_machine(processes: int) -> Any:
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=processes, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0",
        memory_limit=None, silence_logs=logging.ERROR,
    )  # fmt: skip


def _on_the_gpus(processes: int) -> Any:
    """Start a worker for each GPU of this machine, which sees that one alone."""
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), _num_gpus())
    if not gpus:
        raise MachineError("this machine has no GPU that CUDA can use; take `cluster` dask")
    workers = {
        i: {
            "cls": Nanny,
            "options": {
                "nthreads": 1, "memory_limit": None, "host": "127.0.0.1",
                "env": {"CUDA_VISIBLE_DEVICES": gpu},
            },
        }
        for i, gpu in enumerate(gpus)
    }  # fmt: skip
    logger.info("a worker for each of %d GPUs", len(gpus))
    options = {"host": "127.0.0.1", "port": 0, "dashboard_address": ":0"}
    return SpecCluster(
        workers=workers, scheduler={"cls": Scheduler, "options": options},
        silence_logs=logging.ERROR,
    )  # fmt: skip


def visible_gpus(said: str | None, number: int) -> list[str]:
    """Return names of the GPUs that a process may use, as ``CUDA_VISIBLE_DEVICES`` has them.

    >>> visible_gpus(None, 2), visible_gpus("3,GPU-1a", 2), visible_gpus("", 2)
    (['0', '1'], ['3', 'GPU-1a'], [])
    """
    if said is None:
        return [str(gpu) for gpu in range(number)]
    return [name.strip() for name in said.split(",") if name.strip()]


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _by_slurm(processes: int) -> Any:
    """Ask SLURM for a job for each worker, as the user's Dask configuration says of its jobs."""
    import dask

    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise UsageError(
            "`cluster` slurm needs dask-jobqueue; install cubereel with the extra 'cluster'"
        ) from None
    said = dask.config.get("jobqueue.slurm", {})
    workers = [*(said.get("worker-extra-args") or []), *lifetime_of(said.get("walltime"))]
    try:
        cluster = SLURMCluster(cores=1, processes=1, worker_extra_args=workers)
    except ValueError as err:
        raise UsageError(
            f"Dask's configuration of `jobqueue.slurm` does not do: {err}; see "
            "~/.config/dask/jobqueue.yaml"
        ) from err
    cluster.scale(jobs=processes)
    return cluster


CLUSTERS: Mapping[str, Callable[[int], Any]] = {
    "dask": _on_this_machine,
    "local-cuda": _on_the_gpus,
    "slurm": _by_slurm,
}
