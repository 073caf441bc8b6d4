"""The processes of a chaos run: scheduler, workers of Dask, workers of hosts of their own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

SITE = Path(__file__).parent / "site"
CUBEREEL = [str(Path(sys.executable).with_name("cubereel"))]
OWN_HOST = ["unshare", "--net", "--pid", "--fork", "--uts", "--mount-proc", "--kill-child"]


def environment(seconds: float) -> dict[str, str]:
    """Return what all processes are started in."""
    path = os.pathsep.join([str(SITE), str(Path.cwd())])
    # One thread each: there are more processes than cores.
    return os.environ | {
        "PYTHONPATH": path, "CHAOS_SECONDS": str(seconds), "OMP_NUM_THREADS": "1",
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0",
    }  # fmt: skip


def may_unshare() -> bool:
    """Whether processes may be given a host of their own here."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*OWN_HOST, "true"], capture_output=True).returncode == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A process that may be killed, stopped, and started again."""

    def __init__(self, command: list[str], *, seconds: float, log: Path) -> None:
        self._command, self._seconds, self._log = command, seconds, log
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, env=environment(self._seconds), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """Kill it and its decoders, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        self.signal(signal.SIGCONT)
        self.kill()


class Link:
    """A way to the scheduler that can be cut: what is sent waits until it is restored."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._open.clear()

    def restore(self) -> None:
        self._open.set()

    def close(self) -> None:
        self.restore()
        self._listener.shutdown(socket.SHUT_RDWR)  # which ends the waiting in another thread

    def _accept(self) -> None:
        with self._listener, suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                self._open.wait()
                threading.Thread(target=self._serve, args=(ours,), daemon=True).start()

    def _serve(self, ours: socket.socket) -> None:
        address = ("127.0.0.1", self._target)
        with ours, suppress(OSError), socket.create_connection(address) as theirs:
            back = threading.Thread(target=self._pass_on, args=(theirs, ours), daemon=True)
            back.start()
            self._pass_on(ours, theirs)
            back.join()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
