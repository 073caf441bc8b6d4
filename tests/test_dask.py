"""The Dask executor: the same contract as the local one, on real clusters of real processes."""

import itertools
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from distributed import Client

from features_store.errors import ContractError, MachineError, UsageError
from pipelines.executors.dask import DaskExecutor
from pipelines.executors.dask_clusters import CONFIGURATION
from pipelines.executors.dask_worker import gpu_leases
from pipelines.executors.registry import make_executor, require_executor
from pipelines.training.train import train
from tests.stores import header, make_store
from tests.test_executors import ERRORS, JOBS, _is_alive
from tests.test_fit_jobs import CONFIG
from tests.test_tables import LAYERS
from tests.toy_work import Begun, Number, Toy, ToyWork

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::DeprecationWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """A scheduler of its own, two workers at it, and the file that says where it is."""
    file = tmp_path_factory.mktemp("dask") / "scheduler.json"
    with started("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", file):
        while not file.exists():
            time.sleep(0.05)
        with worker(file), worker(file):
            with Client(scheduler_file=str(file), set_as_default=False) as client:
                client.wait_for_workers(2)
            yield f"scheduler-file:{file}"


def worker(file, *more):
    return started(
        "worker", "--scheduler-file", file, "--nthreads", "1", "--no-dashboard",
        "--memory-limit", "0", *more,
    )  # fmt: skip


@contextmanager
def started(*arguments):
    command = [
        sys.executable,
        "-m",
        "distributed.cli.dask_" + arguments[0],
        *map(str, arguments[1:]),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


def executor(where, folder, said=None, **settings):
    say = (said if said is not None else []).append
    return make_executor(where, ToyWork, Toy(str(folder), **settings), processes=2, say=say)


@pytest.mark.parametrize("where", ["local", "scheduler"])
def test_every_job_is_done_once_wherever_it_is(where, tmp_path, request):
    if where == "scheduler":
        where = request.getfixturevalue("scheduler")
    said = []
    with executor(where, tmp_path, said, seconds=0.02) as at_work:
        reports = list(at_work.run(JOBS[:9])) + list(at_work.run(JOBS[9:]))
    assert sorted((r.value, r.square) for r in reports) == [(n, n**2) for n in range(12)]
    assert sorted(said, key=lambda each: each.value) == [Begun(n) for n in range(12)]
    assert len({r.pid for r in reports}) == 2


@pytest.mark.parametrize(("fails", "error", "text"), ERRORS)
def test_an_error_of_the_work_is_raised_as_what_it_is(scheduler, tmp_path, fails, error, text):
    with pytest.raises(error, match=text), executor(scheduler, tmp_path, fails=fails, at=3) as ours:
        list(ours.run(JOBS))


def test_what_is_logged_there_is_logged_here(scheduler, tmp_path, caplog):
    with executor(scheduler, tmp_path, fails="logs", at=5) as ours:
        list(ours.run(JOBS))
    assert caplog.messages.count("a line with 5 words") == 1


def test_a_cluster_of_ours_survives_its_workers_and_leaves_nothing(tmp_path, caplog):
    """One job kills the worker that does it, once; one other that it held may be done again."""
    with executor("dask", tmp_path, fails="dies once", at=3, seconds=0.1) as ours:
        reports = list(ours.run(JOBS))
    assert sorted(r.value for r in reports) == list(range(12))
    assert [m for m in caplog.messages if "a worker died" in m] == [
        "a worker died that had job 4, which is done again"
    ]
    begun = {n: (tmp_path / str(n)).read_text().count("begun") for n in range(12)}
    assert begun.pop(3) == 2
    assert sum(begun.values()) <= 12
    assert not any(_is_alive(pid) for pid in {r.pid for r in reports})


def test_a_job_that_always_kills_is_named_and_costs_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.executors.dask.MAX_DEATHS", 2)
    with (
        pytest.raises(MachineError, match=r"2 workers died at job 12;.*again"),
        executor("dask", tmp_path, fails="dies", at=11) as ours,
    ):
        list(ours.run(JOBS))
    assert all((tmp_path / str(n)).exists() for n in range(11))


def test_workers_that_come_late_get_work(scheduler, tmp_path):
    file = scheduler.removeprefix("scheduler-file:")
    pids = set()
    with executor(scheduler, tmp_path, seconds=0.1) as ours:
        running = ours.run([Number(value) for value in range(60)])
        pids.add(next(running).pid)
        with worker(file):
            while len(ours._client.scheduler_info(n_workers=-1)["workers"]) < 3:
                time.sleep(0.1)
            pids |= {report.pid for report in running}
    assert len(pids) == 3


def test_a_worker_of_another_version_or_of_more_threads_is_refused(scheduler, tmp_path):
    ours = executor(scheduler, tmp_path)
    assert isinstance(ours, DaskExecutor)
    ours._plugin._version = "0.0.1"
    with pytest.raises(ContractError, match=r"worker .* has cubereel .*, this is 0\.0\.1"), ours:
        list(ours.run(JOBS))
    file = scheduler.removeprefix("scheduler-file:")
    with (
        worker(file, "--nthreads", "3"),
        pytest.raises(UsageError, match="has 3 threads; start workers of one thread each"),
        executor(scheduler, tmp_path, seconds=0.3) as ours,
    ):
        list(ours.run([Number(value) for value in range(100, 140)]))


def test_a_scheduler_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.executors.dask_clusters.CONNECT_SECONDS", 0.5)
    with (
        pytest.raises(MachineError, match=r"cannot reach the scheduler tcp://127\.0\.0\.1:9"),
        executor("tcp://127.0.0.1:9", tmp_path) as ours,
    ):
        list(ours.run(JOBS))
    with (
        pytest.raises(UsageError, match=r"no scheduler file '.*'; start 'dask scheduler'"),
        executor(f"scheduler-file:{tmp_path / 'none.json'}", tmp_path) as ours,
    ):
        list(ours.run(JOBS))


def test_a_machine_without_a_gpu_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.executors.dask_clusters._num_gpus", lambda: 0)
    with (
        pytest.raises(MachineError, match="has no GPU that CUDA can use; take `cluster` dask"),
        executor("local-cuda", tmp_path) as ours,
    ):
        list(ours.run(JOBS))


@pytest.mark.parametrize("name", ["dusk", "", "tcp:", "tcp://", "scheduler-file:", "ftp://a:1"])
def test_a_cluster_that_is_none_is_refused(name):
    with pytest.raises(UsageError, match="no `cluster`"):
        require_executor(name)


def test_workers_of_a_host_take_a_gpu_each(tmp_path):
    """By leases in a folder of the host, which a worker that dies gives back."""
    first, second = gpu_leases(tmp_path, 2), gpu_leases(tmp_path, 2)
    assert [lease.take() for lease in first] == [True, True]
    assert [lease.take() for lease in second] == [False, False]
    first[1].release()
    assert [lease.take() for lease in second] == [False, True]
    for lease in (first[0], second[1]):
        lease.release()


def test_fits_on_a_cluster_are_those_of_one_process(scheduler, tmp_path):
    store = tmp_path / "s.cubes"
    videos = {f"{label}/{i}": 5 for label in ("a", "b") for i in range(4)}
    make_store(store, videos, store_header=header(layers=LAYERS))
    said = {"heads": ["mean-pool"], "folds": 2, "seeds": 1, "config": CONFIG, "device": "cpu"}
    train(store, out=tmp_path / "here", processes=1, **said)
    train(store, out=tmp_path / "there", processes=2, cluster=scheduler, **said)
    here, there = (tmp_path / run / "predictions.csv" for run in ("here", "there"))
    assert here.read_bytes() == there.read_bytes()


@pytest.mark.parametrize("step", ["_look", "_submit"])
def test_a_client_that_closes_before_any_step_ends_a_run_in_one_line(
    scheduler, tmp_path, monkeypatch, step
):
    """Dask's client closes in a thread of its own, so at any moment; its errors are many."""
    plain = getattr(DaskExecutor, step)
    num_calls = itertools.count()

    def closed_before(self, *args):
        if next(num_calls) > 0:
            self._client.close()
            self._is_known = False
        return plain(self, *args)

    monkeypatch.setattr(DaskExecutor, step, closed_before)
    with (
        executor(scheduler, tmp_path, seconds=0.2) as ours,
        pytest.raises(MachineError, match=r"the scheduler .* is gone; what is committed"),
    ):
        list(ours.run([Number(value) for value in range(40)]))


def test_a_scheduler_that_goes_away_ends_a_run_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.executors.dask_clusters.CONNECT_SECONDS", 2.0)
    monkeypatch.setitem(CONFIGURATION, "distributed.comm.timeouts.connect", "2s")
    file = tmp_path / "scheduler.json"
    with started("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", file) as gone:
        while not file.exists():
            time.sleep(0.05)
        there = f"scheduler-file:{file}"
        with worker(file), executor(there, tmp_path, seconds=0.2) as ours:
            running = ours.run([Number(value) for value in range(200)])
            next(running)
            gone.kill()
            with pytest.raises(MachineError, match=r"the scheduler .* is gone; what is committed"):
                list(running)
