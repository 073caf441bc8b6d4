"""The processes of a chaos run: scheduler, workers of Dask, workers of hosts of their own."""

import json
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


class Nursery:
    """A host: where processes are started, in a moment each."""

    def __init__(self, *, seconds: float, log: Path, is_apart: bool) -> None:
        self.log = log
        shell = f"hostname node7 && exec '{sys.executable}' -m tests.chaos.nursery"
        apart = [*OWN_HOST, "sh", "-c", shell]
        here = [sys.executable, "-m", "tests.chaos.nursery"]
        with log.open("a") as file:
            self._process = subprocess.Popen(
                apart if is_apart else here, env=environment(seconds), text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
            )  # fmt: skip

    def ask(self, **said: object) -> int | None:
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class Process:
    """A process that may be killed, stopped, and started again."""

    def __init__(self, host: Nursery, command: list[str]) -> None:
        self._host, self._command = host, command
        self.start()

    def start(self) -> None:
        log = str(self._host.log.with_suffix(f".{self._command[0]}.log"))
        self._pid = self._host.ask(do="start", command=self._command, log=log)
        self.code: int | None = None

    def poll(self) -> int | None:
        """Return the code with which it ended; None while it runs."""
        if self.code is None:
            self.code = self._host.ask(do="poll", pid=self._pid)
        return self.code

    def signal(self, number: int) -> None:
        if self.code is None:
            self._host.ask(do="signal", pid=self._pid, number=number)

    def kill(self) -> None:
        """Kill it and its decoders, and wait until it is gone."""
        if self.poll() is None:
            self.signal(signal.SIGKILL)
            self.code = self._host.ask(do="wait", pid=self._pid)

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
