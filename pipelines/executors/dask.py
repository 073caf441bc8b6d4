"""The Dask executor: jobs on the workers of a cluster, few at a time, each sent again if need be.

Few jobs are with the scheduler at once: it stays small, and workers that come late get some. A
worker that dies takes its own job along, which is sent again.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from distributed import KilledWorker, as_completed

from features_store.errors import MachineError
from features_store.plain import from_plain, to_plain
from pipelines.executors.dask_clusters import open_client
from pipelines.executors.dask_worker import WorkPlugin, run_job
from pipelines.executors.messages import Failed
from pipelines.executors.work import Say, Work, name_of

logger = logging.getLogger("cubereel")
MAX_DEATHS = 16  # of workers at one job; the work of units finds the guilty video before
LOOK_SECONDS = 0.02
COUNT_SECONDS = 1.0  # between two looks at how many workers there are
LAST_SECONDS = 0.2
SAID_SECONDS = 5.0  # that what workers said may come after the last report


def window_of(num_workers: int, num_jobs: int) -> int:
    """Return how many jobs are with the scheduler at once: each worker is given one at a time.

    Of more than two for each thread Dask keeps those to come; fewer it would give to workers at
    once, so that one that dies takes several along.

    >>> window_of(4, 100), window_of(4, 8)
    (9, 4)
    """
    most = 2 * max(1, num_workers)
    return most + 1 if num_jobs > most else max(1, num_workers)


class DaskExecutor:
    """Runs jobs on a Dask cluster; a context manager. See `LocalExecutor` for the rest.

    Args:
        where: the cluster; see `registry.EXECUTORS`.
    """

    def __init__(
        self,
        kind: type[Work],
        settings: object,
        *,
        processes: int,
        say: Say,
        where: str,
    ) -> None:
        self._kind, self._say, self._where, self._processes = kind, say, where, processes
        name = f"cubereel-{secrets.token_hex(4)}"
        self._plugin = WorkPlugin(name, name_of(kind), to_plain(settings))
        self._events = {event.__name__: event for event in kind.Events}
        self._stack = ExitStack()
        self._client: Any = None
        self._is_known = False  # the work, to the scheduler
        self._num_heard: Counter[int] = Counter()  # messages of each worker process
        self._num_sent: dict[int, int] = {}

    def __enter__(self) -> DaskExecutor:
        return self

    def __exit__(self, *error: Any) -> None:
        """End the work on all workers, and the cluster if it was started here."""
        self._stack.__exit__(*error)

    @property
    def has_begun(self) -> bool:
        """Whether there is a cluster."""
        return self._client is not None

    def run(self, jobs: Sequence[Any]) -> Iterator[Any]:
        """Yield the report of each job as it comes.

        Raises:
            MachineError: the scheduler is gone, or workers died of one job again and again.
            CubereelError: raised by the work.
        """
        if self._client is None:
            self._begin()
        waiting = deque(range(len(jobs)))
        at_work: dict[str, int] = {}
        deaths: Counter[int] = Counter()
        tries: Counter[int] = Counter()
        done = as_completed(with_results=True, raise_errors=False, loop=self._client.loop)
        num_left, room, counted = len(jobs), 1, 0.0
        while num_left:
            if time.monotonic() - counted > COUNT_SECONDS:
                room, counted = self._look(len(jobs)), time.monotonic()
            chosen = [waiting.popleft() for _ in range(min(len(waiting), room - len(at_work)))]
            if chosen:
                keys = [f"unit-{self._plugin.name}-{i}-{tries[i]}" for i in chosen]
                tries.update(chosen)
                at_work |= dict(zip(keys, chosen, strict=True))
                done.update(self._submit([jobs[i] for i in chosen], keys))
            if not done.has_ready():
                time.sleep(LOOK_SECONDS)
                continue
            for future, result in done.next_batch(block=False):
                i = at_work.pop(future.key)
                if future.status == "finished":
                    num_left -= 1
                    yield self._report(result)
                else:
                    self._again(future, deaths, i)
                    waiting.appendleft(i)
        self._hear_the_rest()

    def _submit(self, jobs: Sequence[Any], keys: list[str]) -> Any:
        """Hand jobs to the scheduler, all at once: so it sees that there are many."""
        plain = [to_plain(job) for job in jobs]
        names = [self._plugin.name] * len(jobs)
        with self._asking():
            return self._client.map(run_job, names, plain, key=keys, pure=False, retries=0)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Ask the scheduler: once it is gone, whatever Dask raises, also of its own, says so.

        Raises:
            MachineError: it is gone for too long.
        """
        try:
            yield
        except Exception as err:
            if self._client.status not in ("closed", "closing"):
                raise
            raise MachineError(
                f"the scheduler of `cluster` {self._where} is gone; what is committed stays: run "
                "the same command again to go on"
            ) from err

    def _begin(self) -> None:
        self._client = self._stack.enter_context(open_client(self._where, self._processes))
        self._stack.callback(self._leave)

    def _leave(self) -> None:
        """Have all workers end their work; what they say in leaving is heard."""
        if self._client.status == "running":
            with suppress(OSError, MachineError), self._asking():  # a scheduler that goes now
                self._client.unregister_worker_plugin(self._plugin.name)
                time.sleep(LAST_SECONDS)
                self._client.unsubscribe_topic(self._plugin.name)

    def _look(self, num_jobs: int) -> int:
        """Return how many jobs may be with the scheduler; 0 while it is away."""
        with self._asking():
            try:
                if not self._is_known:  # to a scheduler that is new, or was started anew
                    self._client.subscribe_topic(self._plugin.name, self._heard)
                    self._client.register_plugin(self._plugin, name=self._plugin.name)
                    self._is_known = True
                workers = self._client.scheduler_info(n_workers=-1)["workers"]
                return window_of(len(workers), num_jobs)
            except (OSError, ValueError, RuntimeError):
                if self._client.status in ("closed", "closing"):
                    raise
                return 0

    def _report(self, result: Any) -> Any:
        for message in result["said"]:
            self._hear(message)
        self._num_sent[result["pid"]] = result["num_sent"]
        if "failed" in result:
            raise from_plain(Failed, result["failed"]).error
        return from_plain(self._kind.Report, result["report"])

    def _again(self, future: Any, deaths: Counter[int], job: int) -> None:
        """See why a job has no report; return if it is to be sent again."""
        if future.status in ("cancelled", "lost"):
            self._is_known = False
            return
        with self._asking():
            error = future.exception()
        if not isinstance(error, KilledWorker):
            raise MachineError(
                f"a worker cannot do a job: {type(error).__name__}: {error}; are the same packages "
                "installed there?"
            ) from error
        deaths[job] += 1
        logger.warning("a worker died that had job %d, which is done again", job + 1)
        if deaths[job] >= MAX_DEATHS:
            raise MachineError(
                f"{MAX_DEATHS} workers died at job {job + 1}; where memory runs out, give fewer "
                "`processes`; run the same command again to go on"
            )

    def _heard(self, event: tuple[float, Any]) -> None:
        _, message = event
        for each in message["said"]:
            self._hear(each)
        self._num_heard[message["pid"]] += 1

    def _hear(self, message: dict[str, Any]) -> None:
        if "text" in message:
            logger.log(message["level"], "%s", message["text"])
        else:
            self._say(from_plain(self._events[message["kind"]], message["event"]))

    def _hear_the_rest(self) -> None:
        """Wait for what workers said before their last reports."""
        deadline = time.monotonic() + SAID_SECONDS
        while time.monotonic() < deadline and any(
            self._num_heard[pid] < number for pid, number in self._num_sent.items()
        ):
            time.sleep(LOOK_SECONDS)
