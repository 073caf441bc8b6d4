"""A worker process: ``python -P -m pipelines.executors.worker CONNECTION_FD``.

It does one kind of work until the parent hangs up. SIGTERM, which the parent sends where it stops
itself, ends it in good order: what is committed is handed over first. What is logged while the work
is set up is not passed on: the parent set up the same, and said it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from extract.decode.connection import receive, send, serve_parent
from features_store.plain import from_plain, to_plain
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
from pipelines.executors.work import Work, find_work

logger = logging.getLogger("cubereel")


class _Stopped(BaseException):
    """The parent stops."""


class Worker:
    """Does the jobs that come in over a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # The work speaks from several threads, and no signal may break off a message.
        self._sending = ThreadPoolExecutor(1, "send")

    def serve(self) -> None:
        """Work until the parent hangs up (`EOFError` or `OSError`)."""
        begin: Begin = receive(self._connection, ToWorker)
        sys.path[:] = begin.path
        kind = find_work(begin.work)
        signal.signal(signal.SIGTERM, _stop)
        with kind(from_plain(kind.Settings, begin.settings)) as work:  # type: ignore[call-arg]
            logger.handlers = [_ToParent(self)]
            while True:
                first: Assigned | NoMore = receive(self._connection, ToWorker)
                if isinstance(first, Assigned):
                    for report in work.run(self._jobs(kind, first), self._say):
                        self.send(Reported(to_plain(report)))
                    self.send(Idle())

    def send(self, message: FromWorker) -> None:
        """Send a message to the parent."""
        self._sending.submit(send, self._connection, message).result()

    def close(self) -> None:
        """End the thread that sends, once it has sent what it has.

        Python would wait for it in vain where a signal came between the start of the thread and its
        being known to the pool.
        """
        self._sending.shutdown()

    def _say(self, event: object) -> None:
        self.send(Said(type(event).__name__, to_plain(event)))

    def _jobs(self, kind: type[Work], first: Assigned) -> Iterator[Any]:
        message: Assigned | NoMore = first
        while isinstance(message, Assigned):
            yield from_plain(kind.Job, message.job)
            self.send(Wanted())
            message = receive(self._connection, ToWorker)


class _ToParent(logging.Handler):
    """Sends log lines to the parent, which says them as its own."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line."""
        self._worker.send(Logged(record.levelno, record.getMessage()))


def _leave(*_: object) -> None:
    """End at once, before any work: an import that is broken off may raise anything later."""
    os._exit(0)


def _stop(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # leaving takes seconds
    raise _Stopped


def main(descriptor: int) -> None:
    """Serve the parent at the other end of a socket."""
    worker = Worker(serve_parent(descriptor, at_sigterm=_leave))
    logger.addHandler(logging.NullHandler())
    logger.setLevel(logging.WARNING)
    try:
        worker.serve()
    except (_Stopped, EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as err:  # whatever it is, the parent raises it, and stops its workers
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with suppress(OSError):
            worker.send(Failed.by(err))
    finally:
        worker.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
    # Python would wait for any thread that a signal has kept from being known to its pool.
    os._exit(0)
