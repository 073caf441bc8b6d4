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
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, get_args

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
from pipelines.executors.work import Say, Work

logger = logging.getLogger("cubereel")
STOP_SECONDS = 60.0  # for sealing what is committed; what is left then, the next run salvages


class LocalExecutor:
    """Runs jobs in worker processes, which stay from one `run` to the next; a context manager.

    Args:
        kind: of work.
        settings: of that work.
        say: called with the events of all workers, in this thread.
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
        self._begin = Begin(
            f"{kind.__module__}:{kind.__qualname__}", to_plain(settings), tuple(sys.path)
        )
        self._num_processes, self._descriptors, self._say = processes, descriptors, say
        self._events = {each.__name__: each for each in get_args(kind.Event) or (kind.Event,)}
        self._workers: list[_Worker] = []

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stop()
        for worker in self._workers:
            worker.end()

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
            for worker in self._workers:
                if worker.is_idle and waiting:
                    worker.assign(waiting.popleft())
            for worker in self._ready():
                message = worker.receive()
                if isinstance(message, Wanted) and waiting:
                    worker.assign(waiting.popleft())
                elif isinstance(message, Wanted):
                    worker.send(NoMore())
                elif isinstance(message, Idle):
                    worker.is_idle = True
                elif isinstance(message, Reported):
                    num_open -= 1
                    yield from_plain(self._kind.Report, message.report)
                else:
                    self._take(message)

    def _ready(self) -> Iterable[_Worker]:
        """Wait until some workers have something to say, and return them."""
        by_connection = {worker.connection: worker for worker in self._workers}
        return [
            by_connection[ready] for ready in wait(list(by_connection)) if ready in by_connection
        ]

    def _take(self, message: Said | Logged | Failed) -> None:
        if isinstance(message, Failed):
            raise message.error
        if isinstance(message, Logged):
            logger.log(message.level, "%s", message.text)
        else:
            self._say(from_plain(self._events[message.kind], message.event))

    def _stop(self) -> None:
        """Let every worker end in good order, and take in what it hands over."""
        for worker in self._workers:
            worker.stop()
        until = time.monotonic() + STOP_SECONDS
        left = {each.connection: each for each in self._workers if each.is_at_work}
        while left and (ready := wait(list(left), max(0.0, until - time.monotonic()))):
            for connection in [each for each in left if each in ready]:
                # The error on its way says more than what goes wrong in leaving.
                try:
                    message = left[connection].receive()
                    if isinstance(message, Said | Logged):
                        self._take(message)
                    elif isinstance(message, Wanted):
                        left[connection].send(NoMore())
                except MachineError:  # it has ended
                    del left[connection]
                except Exception:
                    logger.debug("while leaving", exc_info=True)


class _Worker:
    """The parent's end of one worker process.

    Attributes:
        is_idle: whether it has no job.
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
        self.is_idle = True
        self.send(begin)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_at_work(self) -> bool:
        """Whether it has a job, and has not ended."""
        return not self.is_idle and not self.connection.closed

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
            raise MachineError(
                f"a worker process ended: {self.end()}; where memory runs out, give fewer "
                "`processes`; run the same command again to go on"
            ) from err
        return message

    def stop(self) -> None:
        """Ask it to end in good order."""
        self._process.terminate()

    def end(self) -> str:
        """End it, if it still runs, and say how it ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=0 if self.is_idle else 5)
        if self._process.poll() is None:
            self._process.kill()
        status = self._process.wait()
        self.connection.close()
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
