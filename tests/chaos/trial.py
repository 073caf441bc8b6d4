"""One chaos run: a plan, workers of several kinds, faults at random, and what must hold then."""

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from features_store.claim import read_notes
from features_store.ledger import read_failures
from features_store.locking import UNITS
from features_store.metadata import read_header
from features_store.store import Store
from features_store.verbs.verify import verify_store
from pipelines.extraction.plan_file import load_plan
from pipelines.extraction.status import status
from tests.chaos.processes import Link, Nursery, Process, free_port

LEASE = 2.0
SLOW = 0.5  # seconds that opening a video takes, so that there is a while for faults
FLAGS = [
    "--backbone", "tiny:conv", "--fps", "10", "--device", "cpu", "--lease", str(LEASE),
    "--compile", "off", "--precision", "fp32", "--workers", "1",
]  # fmt: skip
BUSY, FAILED, FAULT = 75, 4, 5


@dataclass
class Outcome:
    """What was done to a run, and what came of it."""

    faults: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    repeated: int = 0
    seconds: float = 0.0


class Trial:
    """A run of extraction with faults, all of them drawn from a seed."""

    def __init__(self, videos: Path, store: Path, *, seed: int, has_hosts: bool) -> None:
        self._videos, self._store = videos, store
        self._random = random.Random(seed)
        log = store.parent / "here.log"
        self._here = Nursery(seconds=SLOW, log=log, is_apart=False)
        self._port = free_port()
        self._link = Link(self._port)
        self.outcome = Outcome()
        self._scheduler = self._dask("scheduler", "--port", str(self._port))
        direct, through = (f"tcp://127.0.0.1:{port}" for port in (self._port, self._link.port))
        self._workers = [self._worker(direct), self._worker(through)]
        self._coordinator = self._extract("--join", "--cluster", direct)
        self._apart = None
        self._hosts: list[Process] = []
        if has_hosts:
            log = store.parent / "apart.log"
            self._apart = Nursery(seconds=SLOW, log=log, is_apart=True)
            self._hosts = [Process(self._apart, self._command("--join"))]

    def run(self, *, seconds: float) -> Outcome:
        """Do harm for so long, finish, and look what came of it."""
        started = time.monotonic()
        try:
            self._await_work()
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                time.sleep(self._random.uniform(0.3, 1.2))
                self._do_harm()
                self._revive()
        finally:
            self._end()
        try:
            self._finish()
        finally:
            self._here.close()
        self.outcome.seconds = time.monotonic() - started
        self._check()
        return self.outcome

    def _await_work(self) -> None:
        """Wait until somebody works; before, there is nothing to lose."""
        until = time.monotonic() + 60
        while not list((self._store / UNITS).glob("*.jsonl")) and time.monotonic() < until:
            time.sleep(0.1)

    def _do_harm(self) -> None:
        kinds = [self._kill_worker, self._stop_worker, self._cut_link, self._kill_scheduler]
        kinds += [self._kill_host, self._stop_host] if self._hosts else []
        chosen = self._random.choices(kinds, [4, 2, 2, 1, 2, 2][: len(kinds)])[0]
        self.outcome.faults.append(chosen.__name__.strip("_"))
        chosen()

    def _kill_worker(self) -> None:
        self._random.choice(self._workers).kill()

    def _stop_worker(self) -> None:
        self._stop(self._random.choice(self._workers))

    def _kill_host(self) -> None:
        self._hosts[0].kill()

    def _stop_host(self) -> None:
        self._stop(self._hosts[0])

    def _stop(self, process: Process) -> None:
        """Stop a process for longer than its lease, so that others take its unit."""
        process.signal(signal.SIGSTOP)
        time.sleep(1.5 * LEASE)
        process.signal(signal.SIGCONT)

    def _cut_link(self) -> None:
        self._link.cut()
        time.sleep(self._random.uniform(0.5, 2.0))
        self._link.restore()

    def _kill_scheduler(self) -> None:
        self._scheduler.kill()
        self._scheduler.start()

    def _revive(self) -> None:
        """Start again what ended, as a cluster would."""
        for process in (*self._workers, *self._hosts, self._coordinator):
            if process.poll() not in (None, 0, FAILED):
                process.start()

    def _end(self) -> None:
        for process in (*self._workers, *self._hosts, self._coordinator, self._scheduler):
            process.end()
        self._link.close()
        if self._apart is not None:
            self._apart.close()

    def _finish(self) -> None:
        """Go on alone until the plan is done."""
        for _ in range(3):
            last = self._extract("--join")
            while last.poll() is None:
                time.sleep(0.1)
            if last.code != BUSY:
                break
        self._count()
        # The video that crashes its decoder is tried again, by a plan of its own.
        last = self._extract()
        while last.poll() is None:
            time.sleep(0.1)

    def _count(self) -> None:
        """See that the plan is done, and how often units were begun again."""
        plan = load_plan(self._store, read_header(self._store))
        after = status(self._store)
        if after.units_done != after.units:
            self.outcome.problems.append(f"{after.units_done} of {after.units} units are done")
        begun = [
            sum(note.get("what") == "begun" for note in read_notes(self._store, row.name))
            for row in plan.units
        ]
        self.outcome.repeated = sum(begun) - len(begun)

    def _check(self) -> None:
        problems = self.outcome.problems
        problems += verify_store(self._store, full=True).problems
        with Store(self._store) as store:
            wanted = {str(path.relative_to(self._videos)) for path in self._videos.rglob("*.mp4")}
            missing = wanted - set(store.ids)
            if missing != {"dark/segfault.mp4"}:
                problems.append(f"missing: {sorted(missing)}")
            sealed = Counter(i for name in store.index.shards for i in store.index.of_shard(name))
            problems += [f"{video_id} is there twice" for video_id, n in sealed.items() if n > 1]
        reasons = {each.reason for each in read_failures(self._store)}
        if "decoder crashed" not in reasons or reasons - {"decoder crashed", "worker died"}:
            problems.append(f"the ledger has {reasons}")

    def _command(self, *more: str) -> list[str]:
        return ["cubereel", "extract", str(self._videos), "--out", str(self._store), *FLAGS, *more]

    def _extract(self, *more: str) -> Process:
        return Process(self._here, self._command(*more))

    def _dask(self, kind: str, *arguments: str) -> Process:
        return Process(self._here, [f"dask-{kind}", "--no-dashboard", *arguments])

    def _worker(self, address: str) -> Process:
        more = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--host", "127.0.0.1")
        return self._dask("worker", address, *more)
