"""The executor contract: every job once, every error as it was, nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import Pipe

import pytest

from features_store.errors import ContractError, MachineError, SpecMismatchError, UsageError
from pipelines.executors.local import LocalExecutor
from pipelines.executors.messages import Idle
from pipelines.executors.worker import Worker
from tests.toy_work import Begun, Left, Number, Toy, ToyWork

JOBS = [Number(value) for value in range(12)]
# What a job does -> what is raised here, by every executor.
ERRORS = [
    ("usage", UsageError, "wrong"),
    ("spec", SpecMismatchError, "another spec"),
    ("contract", ContractError, "broken"),
    ("disk", OSError, "No space left"),
    ("memory", MemoryError, "no memory"),
    ("bug", RuntimeError, "ZeroDivisionError: a bug"),
]


def _executor(folder, *, processes=2, said=None, **settings):
    say = (said if said is not None else []).append
    return LocalExecutor(ToyWork, Toy(str(folder), **settings), processes=processes, say=say)


@pytest.mark.parametrize("processes", [1, 3])
def test_every_job_is_done_once(tmp_path, processes):
    said = []
    with _executor(tmp_path, processes=processes, said=said, seconds=0.02) as executor:
        reports = list(executor.run(JOBS[:9])) + list(executor.run(JOBS[9:]))
        pids = executor.pids

    assert sorted((r.value, r.square) for r in reports) == [(n, n**2) for n in range(12)]
    assert sorted(said, key=lambda each: each.value) == [Begun(n) for n in range(12)]
    assert {r.pid for r in reports} == set(pids)
    assert len(pids) == processes
    assert not any(map(_is_alive, pids))


def test_no_more_processes_are_started_than_there_are_jobs(tmp_path):
    with _executor(tmp_path, processes=5) as executor:
        assert list(executor.run([])) == []
        assert executor.pids == []
        assert len(list(executor.run(JOBS[:2]))) == 2
        assert len(executor.pids) == 2


@pytest.mark.parametrize(
    ("fails", "error", "text"),
    [*ERRORS, ("dies", MachineError, "killed by SIGKILL.*`processes`.*again")],
)
def test_an_error_of_the_work_is_raised_as_what_it_is(tmp_path, capfd, fails, error, text):
    with (
        pytest.raises(error, match=text) as raised,
        _executor(tmp_path, fails=fails, at=3) as executor,
    ):
        list(executor.run(JOBS))
    assert getattr(raised.value, "errno", None) == (28 if fails == "disk" else None)
    assert not any(map(_is_alive, executor.pids))
    assert ("Traceback" in capfd.readouterr().err) == (fails == "bug")


def test_what_is_logged_there_is_logged_here(tmp_path, caplog):
    with _executor(tmp_path, fails="logs", at=5) as executor:
        list(executor.run(JOBS))
    assert "a line with 5 words" in caplog.messages


def test_a_stop_reaches_what_is_in_work_and_takes_in_what_it_says(tmp_path):
    said = []
    with (
        pytest.raises(KeyboardInterrupt),
        _executor(tmp_path, said=said, seconds=30) as executor,
    ):
        list(_interrupted(executor.run(JOBS)))
    assert {each.value for each in said if isinstance(each, Left)} == {0, 1}
    assert not any(map(_is_alive, executor.pids))


def _interrupted(reports):
    """Break off when both processes are at work, as a signal would."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 3.0)
    try:
        yield from reports
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_workers_end_with_their_parent(tmp_path):
    program = (
        "import sys; from tests.test_executors import JOBS, _executor\n"
        "executor = _executor(sys.argv[1], seconds=60)\n"
        "for _ in executor.run(JOBS): pass"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) as parent:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.02)
        children = _children(parent.pid)
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while any(map(_is_alive, children)) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(children) == 2
    assert not any(map(_is_alive, children))


def _children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip() not in ("", "Z")


def test_a_worker_that_is_stopped_as_its_thread_starts_leaves_all_the_same(monkeypatch):
    ours, theirs = Pipe()
    worker = Worker(theirs)
    start = threading.Thread.start

    def start_and_be_stopped(thread):
        start(thread)
        raise KeyboardInterrupt  # as of a signal: the pool does not know of its thread yet

    monkeypatch.setattr(threading.Thread, "start", start_and_be_stopped)
    with pytest.raises(KeyboardInterrupt):
        worker.send(Idle())
    monkeypatch.undo()
    assert any(thread.name.startswith("send") for thread in threading.enumerate())
    worker.close()
    try:
        for thread in threading.enumerate():
            if thread.name.startswith("send"):
                thread.join(timeout=10)
                assert not thread.is_alive()
    finally:
        worker._sending.shutdown()  # or pytest would wait for that thread too
        ours.close()
