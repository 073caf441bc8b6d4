"""The local executor: jobs in worker processes of this machine.

Jobs are handed out one at a time, to whoever has time. A worker's error is raised here; when this
process stops, its workers stop in good order and what they hand over meanwhile still counts.
"""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from extract.decode.connection import receive, send
from features_store.errors import MachineError
from features_store.plain import PlainError, from_plain, to_plain
from pipelines.executors.messages import (
    Assigned,
    Begin,
    Failed,
    FromWorker,
    Idle,
    Logged,
    NoMore,
    Reported,
    Said,
    ToWorker,
    Wanted,
)
from pipelines.executors.work import Say, Work, name_of

logger = logging.getLogger("cubereel")
STOP_SECONDS = 60.0  # for sealing what is committed; what is left then, the next run salvages
LEAVE_SECONDS = 5.0  # for a process whose connection has ended


class LocalExecutor:
    """Runs jobs in worker processes, which stay from one `run` to the next; a context manager.

    All talking to workers is done in a thread of its own, since a signal interrupts the main one:
    no message is read by halves, and what `say` begins it ends.

    Args:
        kind: of work.
        settings: of that work.
        say: called in that thread with the events of all workers, one after the other.
        descriptors: of files that workers have open under the same numbers.
    """

    def __init__(
        self,
        kind: type[Work],
        settings: object,
        *,
        processes: int,
        say: Say,
        descriptors: Sequence[int] = (),
    ) -> None:
        self._kind = kind
        self._begin = Begin(name_of(kind), to_plain(settings), tuple(sys.path))
        self._num_processes, self._descriptors, self._say = processes, descriptors, say
        self._events = {event.__name__: event for event in kind.Events}
        self._workers: list[_Worker] = []
        self._thread = ThreadPoolExecutor(1, "executor")

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for worker in self._workers:
                worker.stop()
            with suppress(TimeoutError):
                self._thread.submit(self._take_the_rest).result(STOP_SECONDS)
        for worker in self._workers:
            worker.end()
        self._thread.shutdown()
        for worker in self._workers:
            worker.connection.close()

    @property
    def has_begun(self) -> bool:
        """Whether there are worker processes."""
        return bool(self._workers)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.pid for worker in self._workers]

    def run(self, jobs: Sequence[Any]) -> Iterator[Any]:
        """Yield the report of each job as it comes.

        Raises:
            MachineError: a worker cannot be started, or died.
            CubereelError: raised by the work.
        """
        waiting, num_open = deque(jobs), len(jobs)
        while len(self._workers) < min(self._num_processes, num_open):
            self._workers.append(_Worker(self._begin, self._descriptors))
        while num_open:
            for report in self._thread.submit(self._step, waiting).result():
                num_open -= 1
                yield report

    def _step(self, waiting: deque[Any]) -> list[Any]:
        """Hand out jobs, take in what workers say next, and return the reports among it."""
        for worker in self._workers:
            if worker.is_idle and waiting:
                worker.assign(waiting.popleft())
        reports: list[Any] = []
        for worker in _ready(self._workers):
            message = worker.receive()
            if isinstance(message, Wanted) and waiting:
                worker.assign(waiting.popleft())
            elif isinstance(message, Reported):
                reports.append(from_plain(self._kind.Report, message.report))
            elif isinstance(message, Failed):
                raise message.error
            else:
                self._take(worker, message)
        return reports

    def _take(self, worker: _Worker, message: FromWorker) -> None:
        if isinstance(message, Wanted):
            worker.send(NoMore())
        elif isinstance(message, Idle):
            worker.is_idle = True
        elif isinstance(message, Logged):
            logger.log(message.level, "%s", message.text)
        elif isinstance(message, Said):
            self._say(from_plain(self._events[message.kind], message.event))

    def _take_the_rest(self) -> None:
        """Take in what workers hand over until they have ended."""
        while left := [worker for worker in self._workers if worker.is_at_work]:
            for worker in _ready(left):
                # The error on its way says more than what goes wrong in leaving.
                try:
                    self._take(worker, worker.receive())
                except Exception:
                    logger.debug("while leaving", exc_info=True)


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    """Wait until some workers have something to say, and return them."""
    ready = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in ready]


class _Worker:
    """The parent's end of one worker process.

    Attributes:
        is_idle: whether it has no job.
        is_lost: whether its connection has ended.
    """

    def __init__(self, begin: Begin, descriptors: Sequence[int]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", __package__ + ".worker", str(theirs.fileno())]
            try:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=(theirs.fileno(), *descriptors),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C in a terminal is for the parent
                )
            except OSError as err:
                ours.close()
                raise MachineError(f"cannot start a worker process: {err}") from err
        self.connection = Connection(ours.detach())
        self.is_idle, self.is_lost = True, False
        self.send(begin)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_at_work(self) -> bool:
        """Whether it has a job, and has not ended."""
        return not (self.is_idle or self.is_lost)

    def assign(self, job: object) -> None:
        """Give it a job."""
        self.is_idle = False
        self.send(Assigned(to_plain(job)))

    def send(self, message: ToWorker) -> None:
        """Send a message; that the worker is gone shows on the next `receive`."""
        with suppress(OSError):
            send(self.connection, message)

    def receive(self) -> FromWorker:
        """Wait for its next message.

        Raises:
            MachineError: it died.
        """
        try:
            message: FromWorker = receive(self.connection, FromWorker)
        except (EOFError, OSError, PlainError) as err:
            self.is_lost = True
            how = self.end(after=LEAVE_SECONDS)
            raise MachineError(
                f"a worker process ended: {how}; where memory runs out, give fewer `processes`; "
                "run the same command again to go on"
            ) from err
        return message

    def stop(self) -> None:
        """Ask it to end in good order."""
        self._process.terminate()

    def end(self, *, after: float = 0.0) -> str:
        """End it, if it still runs after so many seconds, and say how it ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=after)
        if self._process.poll() is None:
            self._process.kill()
        status = self._process.wait()
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
