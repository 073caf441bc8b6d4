"""Signals to a command line that extracts; `test_crash` kills what writes a store everywhere."""

import signal
import subprocess
import time

import pytest

from features_store.verbs.verify import verify_store
from tests.clips import write_classes
from tests.commands import start

EXTRACT = ("--backbone", "tiny:conv", "--fps", "10", "--batch-size", "4")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("videos"), per_class=15, num_frames=30)


def _wait_for_rows(store, process):
    while not list((store / "shards").glob("*.partial")) and process.poll() is None:
        time.sleep(0.005)


@pytest.mark.parametrize("num_signals", [1, 3])
def test_a_polite_signal_seals_what_is_done_and_says_resume(videos, tmp_path, num_signals):
    store = tmp_path / "s.cubes"
    with start("extract", videos, "--out", store, *EXTRACT) as process:
        _wait_for_rows(store, process)
        time.sleep(0.3)
        for _ in range(num_signals):  # schedulers and people do not wait for the first to work
            process.send_signal(signal.SIGTERM)
            time.sleep(0.02)
        output = process.communicate()[0]

    assert process.returncode in (0, 75), output
    assert verify_store(store, full=True).problems == []
    assert list((store / "shards").glob("*.partial")) == []


def test_no_worker_outlives_a_killed_run(videos, tmp_path):
    store = tmp_path / "s.cubes"
    with start("extract", videos, "--out", store, *EXTRACT) as process:
        _wait_for_rows(store, process)
        time.sleep(0.2)
        workers = _children(process.pid)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(map(_is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not any(map(_is_alive, workers))


def _children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def _is_alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip() not in ("", "Z")
