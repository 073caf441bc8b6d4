"""Decode many videos in child processes; events come in the order of the tasks.

A worker runs ahead of the consumer by at most `slots` frames, so memory is bounded whatever the
videos' length; of videos that keep more frames than that, several decode at once only as far as
the ring reaches. A video that crashes or hangs its decoder fails alone, and its worker is replaced.
"""

import selectors
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import cast

from extract.decode.events import DecodeEvent as DecodeEvent
from extract.decode.events import Failed as Failed
from extract.decode.events import Finished as Finished
from extract.decode.events import Frames as Frames
from extract.decode.events import read_event
from extract.decode.messages import Decoded, Ended
from extract.decode.messages import DecodeTask as DecodeTask
from extract.decode.process import WorkerProcess
from extract.decode.settings import DecodeSettings as DecodeSettings
from extract.video.header import VideoHeader
from features_store.errors import DecodeError, MachineError

TASKS_AHEAD = 2  # per worker: the one being decoded, and the next, so that it never waits for us
VIDEOS_PER_WORKER = 200  # then it is replaced, because decoders leak
MAX_FAILED_STARTS = 3
START_SECONDS = 120.0  # Python and its packages may come from a slow network disk


@dataclass(eq=False)
class _Job:
    task: DecodeTask
    worker: "_Seat"


@dataclass(eq=False)
class _Seat:
    """A worker and the jobs that it has not reported as done, the one in work first."""

    process: WorkerProcess
    jobs: deque[_Job] = field(default_factory=deque)
    num_assigned: int = 0


class DecodePool:
    """Worker processes that decode; use as a context manager.

    Args:
        settings: the same for all videos.
        workers: child processes, one thread each.
        timeout_seconds: without a packet read, until a decoder counts as hung. Waiting for the
            consumer does not count.

    Raises:
        MachineError: workers cannot be started.
    """

    def __init__(
        self, settings: DecodeSettings, *, workers: int = 1, timeout_seconds: float = 60.0
    ) -> None:
        if workers < 1 or timeout_seconds <= 0:
            raise ValueError(
                f"workers and timeout must be positive, got {workers} and {timeout_seconds}"
            )
        self._settings = settings
        self._num_workers = workers
        self._timeout_seconds = timeout_seconds
        self._seats: list[_Seat] = []
        self._selector = selectors.DefaultSelector()  # knows the connections of all seats
        self._num_failed_starts = 0
        self._is_open = False

    def __enter__(self) -> "DecodePool":
        self._is_open = True
        self._fill()  # now, so that workers start while the caller loads a network
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every worker at once, whatever it is doing."""
        self._is_open = False
        self._end_workers()

    def _end_workers(self) -> None:
        for seat in self._seats:
            self._end(seat)
        self._seats = []

    @property
    def draws_frames(self) -> bool:
        """Whether which frames are kept depends on each task's `draw_key`."""
        return self._settings.sampling.jitter > 0

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the present workers."""
        return [seat.process.pid for seat in self._seats]

    def decode(self, tasks: Iterable[DecodeTask]) -> Iterator[DecodeEvent]:
        """Yield the events of each task in turn: any `Frames`, then `Finished` or `Failed`."""
        yield from cast(Iterator[DecodeEvent], self._events(tasks))

    def probe(self, paths: Sequence[Path]) -> Iterator[VideoHeader | DecodeError]:
        """Yield the header of each file in turn, or why it has none.

        FFmpeg may crash, hang or eat memory over a header as over a frame, hence in workers.
        """
        for event in self._events(DecodeTask(0, str(path), is_probe=True) for path in paths):
            assert isinstance(event, VideoHeader | Failed), "a header has no frames"
            yield event if isinstance(event, VideoHeader) else event.error

    def _events(self, tasks: Iterable[DecodeTask]) -> Iterator[DecodeEvent | VideoHeader]:
        if not self._is_open:
            raise ValueError("the pool is not open; use it as 'with DecodePool(...) as pool:'")
        self._fill()
        waiting = iter(tasks)
        jobs: deque[_Job] = deque()
        try:
            while True:
                self._drain()
                jobs.extend(self._hand_out(waiting))
                if not jobs:
                    return
                event = self._next_event(jobs[0])
                if not isinstance(event, Frames):
                    jobs.popleft()
                yield event
        finally:
            if jobs:  # abandoned in the middle: what the workers are at is of no use
                self._end_workers()

    def _new_seat(self) -> _Seat:
        try:
            process = WorkerProcess(self._settings)
        except OSError as err:
            raise MachineError(f"cannot start a decode worker: {err}") from err
        seat = _Seat(process)
        self._selector.register(process.connection, selectors.EVENT_READ, seat)
        return seat

    def _end(self, seat: _Seat) -> None:
        """End a worker; its ring and the messages that are in stay readable."""
        self._selector.unregister(seat.process.connection)
        seat.process.end()

    def _fill(self) -> None:
        try:
            while len(self._seats) < self._num_workers:
                self._seats.append(self._new_seat())
        except BaseException:
            self.close()
            raise

    def _hand_out(self, waiting: Iterator[DecodeTask]) -> Iterator[_Job]:
        """Give tasks to the least busy workers while any has room."""
        while True:
            for number, seat in enumerate(list(self._seats)):
                if seat.num_assigned >= VIDEOS_PER_WORKER and not seat.jobs:
                    del self._seats[number]
                    self._end(seat)  # all its messages are in
                    self._seats.insert(number, self._new_seat())
            free = [
                seat
                for seat in self._seats
                if seat.num_assigned < VIDEOS_PER_WORKER and len(seat.jobs) < TASKS_AHEAD
            ]
            if not free:
                return
            seat = min(free, key=lambda seat: len(seat.jobs))
            task = next(waiting, None)
            if task is None:
                return
            job = _Job(task, seat)
            self._assign(job, seat)
            yield job

    def _assign(self, job: _Job, seat: _Seat) -> None:
        job.worker = seat
        seat.jobs.append(job)
        seat.num_assigned += not job.task.is_probe
        seat.process.send(job.task)

    def _drain(self, timeout: float = 0.0) -> None:
        """Take in what all workers say, so that none waits for a task behind a slow consumer.

        Args:
            timeout: seconds to wait for the first of them to say something.
        """
        while ready := self._selector.select(timeout):
            for key, _ in ready:
                self._take_in(key.data)
            timeout = 0.0

    def _take_in(self, seat: _Seat) -> None:
        was_ready = seat.process.is_ready
        message = seat.process.receive()
        if seat.process.is_ready and not was_ready:
            self._num_failed_starts = 0
        if message is not None and not isinstance(message, Decoded):
            seat.jobs.popleft()
        if seat.process.is_lost:
            self._replace(seat, reason="decoder crashed")

    def _next_event(self, job: _Job) -> DecodeEvent | VideoHeader:
        """Wait for the next message about `job`, the first one in order."""
        state, since = None, time.monotonic()
        while not job.worker.process.messages:
            process = job.worker.process
            self._drain(min(1.0, self._timeout_seconds / 4))
            if state != (process.pid, process.is_ready, process.progress):
                state = (process.pid, process.is_ready, process.progress)
                since = time.monotonic()
            # We took all its frames, so it is not waiting for us.
            is_silent = job.worker.process is process and not process.messages
            patience = self._timeout_seconds if process.is_ready else START_SECONDS
            if is_silent and time.monotonic() - since > patience:
                how = f"no progress for {patience:g} s"
                self._replace(job.worker, reason="decoder hung", how=how)
        return read_event(job.task, process=job.worker.process)

    def _replace(self, seat: _Seat, *, reason: str, how: str | None = None) -> None:
        """Put a new worker in a worker's place and give it the jobs not begun.

        Args:
            how: the old one failed; None if it died by itself.
        """
        position = self._seats.index(seat)
        del self._seats[position]
        self._selector.unregister(seat.process.connection)
        if how is None:
            how = seat.process.wait_for_death()
        else:
            seat.process.end()
        if not seat.process.is_ready:
            self._num_failed_starts += 1
            if self._num_failed_starts >= MAX_FAILED_STARTS:
                raise MachineError(f"decode workers do not start ({how}); see their messages above")
        elif seat.jobs:
            seat.jobs.popleft()
            message = f"the decoder of this video ended: {how}"
            seat.process.messages.append(Ended(None, reason, message))
        successor = self._new_seat()
        self._seats.insert(position, successor)
        for job in seat.jobs:
            self._assign(job, successor)
