"""Signals to a command line that extracts; `test_crash` kills what writes a store everywhere."""

import json
import random
import signal
import subprocess
import time

import pytest

from features_store.format.layout import LayerShape
from features_store.store import Store
from features_store.verbs.diff import diff_stores
from features_store.verbs.verify import verify_store
from tests.clips import write_classes
from tests.commands import start
from tests.stores import header, make_store

EXTRACT = ("--backbone", "tiny:conv", "--fps", "10", "--batch-size", "4")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("videos"), per_class=15, num_frames=30)


def _wait_for_rows(store, process):
    while not list((store / "shards").glob("*.partial")) and process.poll() is None:
        time.sleep(0.005)


@pytest.mark.parametrize(("num_signals", "processes"), [(1, 1), (3, 1), (1, 2)])
def test_a_polite_signal_seals_what_is_done_and_says_resume(
    videos, tmp_path, num_signals, processes
):
    store = tmp_path / "s.cubes"
    with start("extract", videos, "--out", store, *EXTRACT, "--processes", processes) as process:
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


NUM_KILLS = 20


def _killed_at_random(folder, pattern, *arguments):
    """Run a command to its end, on and on; kill it at random once it leaves new files in a folder.

    Says how often it was killed.
    """
    rng, kills = random.Random(0), 0
    while True:
        before = set(folder.rglob(pattern))
        with start(*arguments) as process:
            while set(folder.rglob(pattern)) <= before and process.poll() is None:
                time.sleep(0.01)
            if kills < NUM_KILLS:
                time.sleep(rng.uniform(0, 1.5))
                process.send_signal(signal.SIGKILL)
            output = process.communicate()[0]
        assert process.returncode in (0, -signal.SIGKILL), output
        if process.returncode == 0:
            return kills
        kills += 1


@pytest.mark.slow
def test_units_in_processes_that_are_killed_twenty_times_come_out_equal(tmp_path):
    videos = write_classes(tmp_path / "videos", per_class=20, num_frames=60)
    options = (*EXTRACT, "--compile", "off", "--processes", 2)
    whole, kills, number = tmp_path / "whole.cubes", 0, 0
    with start("extract", videos, "--out", whole, *options) as process:
        process.communicate()
    while kills < NUM_KILLS:
        number += 1
        store = tmp_path / f"{number}.cubes"
        kills += _killed_at_random(store, "*.partial", "extract", videos, "--out", store, *options)
        assert verify_store(store, full=True).problems == []
        with Store(whole) as first, Store(store) as second:
            assert diff_stores(first, second).identical
    print(f"{kills} kills in {number} stores, all equal")


@pytest.mark.slow
def test_fits_in_processes_that_are_killed_twenty_times_come_out_equal(tmp_path):
    store = tmp_path / "s.cubes"
    videos = {f"{label}/{i}": 12 for label in ("a", "b") for i in range(40)}
    make_store(store, videos, store_header=header(layers=(LayerShape("top", 7, 256),)))
    heads = ("--head", "mean-pool", "--head", "soft-attention", "--device", "cpu")
    options = ("--folds", 4, "--seeds", 2, "--epochs", 10, "--processes", 2)
    arguments = ("train", store, *heads, *options, "--out")
    whole, kills, number = tmp_path / "whole", 0, 0
    with start(*arguments, whole) as process:
        output = process.communicate()[0]
    assert process.returncode == 0, output
    while kills < NUM_KILLS:
        number += 1
        run = tmp_path / f"run{number}"
        kills += _killed_at_random(run / "fits", "fold*.json", *arguments, run)
        _assert_same_run(whole, run)
    print(f"{kills} kills in {number} runs, all equal")


def _assert_same_run(whole, run):
    for path in whole.rglob("*"):
        other = run / path.relative_to(whole)
        if path.suffix in (".safetensors", ".csv"):
            assert path.read_bytes() == other.read_bytes(), path
    tables = [json.loads((each / "results.json").read_text())["heads"] for each in (whole, run)]
    for row in tables[0] + tables[1]:
        del row["seconds"]
    assert tables[0] == tables[1]


def _children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def _is_alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip() not in ("", "Z")
