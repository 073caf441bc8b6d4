"""The parent's handle on one decode worker: start it, talk to it, take its frames, end it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from multiprocessing.connection import Connection

import numpy as np
from jaxtyping import UInt8

from extract.decode.channel import FrameRing, create_ring_file
from extract.decode.connection import receive, send
from extract.decode.messages import Credits, Decoded, Ended, FromWorker, Probed, Ready, ToWorker
from extract.decode.settings import DecodeSettings
from features_store.plain import PlainError

_ENVIRONMENT = {
    "PYTHONSAFEPATH": "1",
    # glibc would give each frame's memory back to the system and fault it in again: 3 to 8 %.
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
}


class WorkerProcess:
    """One child process with its own ring.

    A plain command instead of `multiprocessing`: the caller's script needs no ``__main__`` guard
    and nothing of the caller's state is copied.

    Attributes:
        messages: received and not yet used; they stay usable when the process is gone.
        is_ready: whether it has come as far as waiting for tasks.
        is_lost: whether the connection has ended.
    """

    def __init__(self, settings: DecodeSettings) -> None:
        self.messages: deque[Decoded | Probed | Ended] = deque()
        self.is_ready = False
        self.is_lost = False
        self._next_slot = 0
        self._num_slots = num_slots = settings.slots
        size = settings.frame_size
        ours, theirs = socket.socketpair()
        with theirs, create_ring_file(num_slots=num_slots, frame_size=size) as ring_file:
            self._ring = FrameRing(ring_file.fileno(), num_slots=num_slots, frame_size=size)
            self.connection = Connection(ours.detach())
            self._process = _start(theirs.fileno(), ring_file.fileno())
        self.send(settings)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def progress(self) -> int:
        """A number that changes whenever the worker reads a packet."""
        return self._ring.progress

    def send(self, message: ToWorker) -> None:
        """Send a message; that the worker is gone shows on the next `receive`."""
        if self.connection.closed:
            return
        try:
            send(self.connection, message)
        except OSError:
            return

    def receive(self) -> Decoded | Probed | Ended | None:
        """Take in the next message, which is there, and return it; it is in `messages` too.

        None for one that is the worker's own affair, or where the connection has ended. A worker
        that says what none of ours would is lost too.
        """
        try:
            message: FromWorker = receive(self.connection, FromWorker)
        except (EOFError, OSError, PlainError):
            self.is_lost = True
            return None
        if isinstance(message, Ready):
            self.is_ready = True
            return None
        self.messages.append(message)
        return message

    def take_frames(self, count: int) -> UInt8[np.ndarray, "n h w 3"]:
        """Copy the oldest `count` frames out of the ring and let the worker use their slots."""
        pixels = self._ring.copy_frames(self._next_slot, count=count)
        self._next_slot = (self._next_slot + count) % self._num_slots
        self.send(Credits(count))
        return pixels

    def end(self) -> str:
        """End the process, if it still runs, and say how it ended."""
        self.is_lost = True
        self.connection.close()
        if self._process.poll() is None:
            self._process.kill()
        status = self._process.wait()
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exit status {status}"

    def wait_for_death(self) -> str:
        """Say how a process ended whose connection is lost."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        return self.end()


def _start(connection_descriptor: int, ring_descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "extract.decode.worker",
            str(connection_descriptor),
            str(ring_descriptor),
        ],
        pass_fds=(connection_descriptor, ring_descriptor),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT},
        start_new_session=True,  # Ctrl-C in a terminal is for the parent
    )
