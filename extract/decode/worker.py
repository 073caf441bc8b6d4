"""The child process that decodes: ``python -P -m extract.decode.worker CONNECTION_FD RING_FD``.

It decodes one video after another into the ring and never has more than `num_slots` frames there
that the parent has not taken. It ends when its parent does, even in the middle of a video.
"""

import resource
import sys
from collections import deque
from multiprocessing.connection import Connection

from extract.decode.channel import FrameRing
from extract.decode.connection import receive, send, serve_parent
from extract.decode.messages import (
    Credits,
    Decoded,
    DecodeTask,
    Ended,
    Probed,
    Ready,
    ToWorker,
)
from extract.decode.settings import DecodeSettings
from extract.video.decoders.registry import find_decoder
from extract.video.header import probe
from extract.video.reader import FrameReader
from features_store.errors import DecodeError


class DecodeWorker:
    """The worker's loop: tasks and credits come in, frames and verdicts go out."""

    def __init__(self, connection: Connection, *, ring_descriptor: int) -> None:
        self._settings: DecodeSettings = receive(connection, ToWorker)
        self._num_slots = self._settings.slots
        self._batch_size = max(1, min(64, self._num_slots // 4))
        self._connection = connection
        self._ring = FrameRing(
            ring_descriptor, num_slots=self._num_slots, frame_size=self._settings.frame_size
        )
        self._tasks: deque[DecodeTask] = deque()
        self._num_free = self._num_slots
        self._next_slot = 0
        self._batch: list[tuple[float, int]] = []

    @property
    def max_bytes(self) -> int:
        """Of memory that decoding may take."""
        return find_decoder(self._settings.decoder).max_bytes

    def run(self) -> None:
        """Work until the parent closes the connection (`EOFError` or `OSError`)."""
        send(self._connection, Ready())
        while True:
            while not self._tasks:
                self._receive()
            task = self._tasks.popleft()
            if task.is_probe:
                self._probe(task)
            else:
                self._decode(task)

    def _receive(self) -> None:
        message: ToWorker = receive(self._connection, ToWorker)
        if isinstance(message, Credits):
            self._num_free += message.count
        elif isinstance(message, DecodeTask):
            self._tasks.append(message)

    def _probe(self, task: DecodeTask) -> None:
        try:
            send(self._connection, Probed(probe(task.path)))
        except (DecodeError, MemoryError) as err:
            send(self._connection, Ended(None, *_why(task, err)))

    def _decode(self, task: DecodeTask) -> None:
        reader = FrameReader(
            task.path,
            self._settings,
            draw_key=task.draw_key,
            start_seconds=task.start_seconds,
            end_seconds=task.end_seconds,
            on_packet=self._ring.advance,
        )
        why = ("", "")
        try:
            for frame in reader:
                self._reserve_slot()
                self._ring.slots[self._next_slot] = frame.pixels
                self._next_slot = (self._next_slot + 1) % self._num_slots
                self._batch.append((frame.pts_seconds, frame.frame_index))
                if len(self._batch) == self._batch_size:
                    self._flush()
        except (DecodeError, MemoryError) as err:
            why = _why(task, err)
        self._flush()
        send(self._connection, Ended(reader.summary if reader.has_summary else None, *why))

    def _reserve_slot(self) -> None:
        if not self._num_free:
            self._flush()
        while not self._num_free:
            self._receive()
        self._num_free -= 1

    def _flush(self) -> None:
        if self._batch:
            pts_seconds, frame_index = zip(*self._batch, strict=True)
            send(self._connection, Decoded(pts_seconds, frame_index))
            self._batch = []


def _why(task: DecodeTask, err: DecodeError | MemoryError) -> tuple[str, str]:
    """Return the reason and the message of a failure."""
    if isinstance(err, DecodeError):
        return err.reason, str(err)
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return "out of memory", f"{task.path!r} needs more than {limit / 1e9:.1f} GB to decode"


def _limit_memory(num_bytes: int) -> None:
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if before == resource.RLIM_INFINITY or before > num_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (num_bytes, hard))


def main(connection_descriptor: int, ring_descriptor: int) -> None:
    """Serve the parent at the other end of `connection_descriptor`."""
    connection = serve_parent(connection_descriptor)
    try:
        worker = DecodeWorker(connection, ring_descriptor=ring_descriptor)
        _limit_memory(worker.max_bytes)
        worker.run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
