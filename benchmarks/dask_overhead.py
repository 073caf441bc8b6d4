"""What the Dask executor costs: units that sleep, on many worker threads, against the ideal.

    uv run python -m benchmarks.dask_overhead [--processes 8] [--threads 8] [--runs 3]
        [--units 3500x1 700x10]

Every worker has one thread, as in real runs; `--threads` of them may share a process, since 64
processes are too many for a small machine. The ideal is that no thread ever waits. The scheduler is
a process of its own, so that its memory is told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import psutil
from distributed import Client, Worker

from extract.unit import Unit, UnitReport, VideoJob
from features_store.plain import to_plain
from pipelines.executors.dask_clusters import CONFIGURATION
from pipelines.executors.dask_worker import run_job
from pipelines.executors.registry import make_executor
from pipelines.executors.work import Work

MB = 2**20
VIDEOS = 16  # of a unit, so that what travels is as large as in a real run


@dataclass(frozen=True)
class Pause:
    seconds: float


class PauseWork(Work):  # found in ``__main__``, which is this file in workers too
    Settings, Job, Report = Pause, Unit, UnitReport

    def __init__(self, settings):
        self._settings = settings

    def run(self, jobs, say):
        for job in jobs:
            time.sleep(self._settings.seconds)
            yield UnitReport(job.name, num_videos=VIDEOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--units", nargs="+", default=["3500x1", "700x10"])
    parser.add_argument("--workers-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.workers_of:
        asyncio.run(serve(arguments.workers_of, arguments.threads))
        return
    print(f"a unit of {VIDEOS} videos is {bytes_of_task()} bytes as a task, pickled")
    for case in arguments.units:
        number, seconds = case.split("x")
        measure(int(number), float(seconds), arguments)


def unit(number: int) -> Unit:
    videos = [
        VideoJob(
            video_id=f"class_{number % 400:03}/video_{number * VIDEOS + i:08}",
            file=f"/data/videos/class_{number % 400:03}/video_{number * VIDEOS + i:08}.mp4",
            start_seconds=None,
            end_seconds=None,
            max_frames=100,
            media_bytes=500_000 + i,
            media_mtime_ns=1_700_000_000_000_000_000 + i,
        )
        for i in range(VIDEOS)
    ]
    return Unit(f"20261127T120000Z-ab12.{number:04}-1", tuple(videos))


def bytes_of_task() -> int:
    job = to_plain(unit(1))
    return len(pickle.dumps((run_job, ("cubereel-00000000", job), "unit-cubereel-00000000-3499-0")))


def measure(num_units: int, seconds: float, arguments: argparse.Namespace) -> None:
    num_threads = arguments.processes * arguments.threads
    ideal = ceil(num_units / num_threads) * seconds
    took, efficiencies = [], []
    with cluster(arguments) as (address, scheduler):
        before = scheduler.memory_info().rss
        for _ in range(arguments.runs):
            cpu, started = sum(scheduler.cpu_times()[:2]), time.perf_counter()
            with make_executor(
                address, PauseWork, Pause(seconds), processes=1, say=lambda _: None
            ) as executor:
                reports = list(executor.run([unit(number) for number in range(num_units)]))
                took.append(time.perf_counter() - started)
            assert len({report.unit for report in reports}) == num_units
            efficiencies.append(ideal / took[-1])
            milliseconds = 1e3 * (sum(scheduler.cpu_times()[:2]) - cpu) / num_units
            print(f"  {took[-1]:.2f} s, scheduler {milliseconds:.1f} ms of CPU a unit", flush=True)
        after = scheduler.memory_info().rss
    print(
        f"{num_units} units of {seconds:g} s on {num_threads} threads: "
        f"{statistics.median(took):.2f} s ({min(took):.2f} to {max(took):.2f}), ideal {ideal:.2f} s"
        f", efficiency {statistics.median(efficiencies):.3f} ({min(efficiencies):.3f} to "
        f"{max(efficiencies):.3f}); scheduler {before / MB:.0f} MB before, {after / MB:.0f} MB "
        "after",
        flush=True,
    )


@contextmanager
def cluster(arguments: argparse.Namespace) -> Iterator[tuple[str, psutil.Process]]:
    """Give a scheduler's address and process, when all workers have joined."""
    environment = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "critical"}
    for name, value in CONFIGURATION.items():
        words = name.upper().replace("-", "_").replace(".", "__")
        environment[f"DASK_{words}"] = str(value)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = Path(folder) / "scheduler.json"
        program = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1:0"]
        program += ["--no-dashboard", "--scheduler-file", str(file)]
        scheduler = stack.enter_context(_running(program, environment))
        while not file.exists():
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        program = [sys.executable, "-m", "benchmarks.dask_overhead", "--workers-of", address]
        program += ["--threads", str(arguments.threads)]
        for _ in range(arguments.processes):
            stack.enter_context(_running(program, environment))
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(arguments.processes * arguments.threads, timeout=120)
        yield address, psutil.Process(scheduler.pid)


@contextmanager
def _running(program: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(program, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


async def serve(address: str, num_workers: int) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(num_workers):
            worker = Worker(address, nthreads=1, memory_limit=0, dashboard=False)
            await stack.enter_async_context(worker)
        await asyncio.Event().wait()


if __name__ == "__main__":
    main()
