"""Changes files of stores at random, by a seed, and sees that nothing but an error comes of it.

    uv run python -m tests.hostile.fuzz [--seconds S] [--first SEED]

Every seed is one change. A child makes them one after the other and is watched: where it hangs or
dies, the seed is told and the next child goes on behind it.
"""

import argparse
import json
import os
import random
import select
import signal
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.hostile.server import LIMIT_SECONDS, PATIENCE_SECONDS, limit_memory
from tests.hostile.subjects import check, fresh, make_subjects, mutate


@dataclass
class Found:
    """How many changes there were, how they ended, and by seed what must not be."""

    num_changes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[int, str] = field(default_factory=dict)


def fuzz(*, first: int = 0, count: int = 2**62, seconds: float = 1e9) -> Found:
    """Make changes from a seed on, until there were so many or so long."""
    found, until, seed = Found(), time.monotonic() + seconds, first
    with tempfile.TemporaryDirectory(dir=_in_memory()) as folder:
        subjects = make_subjects(Path(folder))
        while seed < first + count and time.monotonic() < until:
            seed = _watch(found, subjects, Path(folder), range(seed, first + count), until)
    return found


def _in_memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _watch(found: Found, subjects: list[Path], folder: Path, seeds: range, until: float) -> int:
    """Let a child make changes; return the first seed that it has not come to."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receiver)
        os._exit(_child(subjects, folder, seeds, until, sender))
    os.close(sender)
    begun, has_hung = seeds.start - 1, False
    with os.fdopen(receiver) as lines:
        while True:
            if not select.select([receiver], [], [], PATIENCE_SECONDS)[0]:
                has_hung = True
                os.kill(pid, signal.SIGKILL)
            line = lines.readline()
            if not line:
                break
            begun, outcome, fault = json.loads(line)
            if outcome:
                found.num_changes += 1
                found.outcomes[outcome] += 1
            if fault:
                found.faults[begun] = fault
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        has_hung = has_hung or status == -signal.SIGVTALRM
        found.faults[begun] = "it hung" if has_hung else f"it died: {status}"
    return begun + 1


def _child(subjects: list[Path], folder: Path, seeds: range, until: float, sender: int) -> int:
    limit_memory()
    os.dup2(os.open(os.devnull, os.O_RDWR), 2)  # warnings of workers that left something

    def say(*what: object) -> None:
        os.write(sender, json.dumps(what).encode() + b"\n")

    for seed in seeds:
        if time.monotonic() > until:
            return 0
        say(seed, "", "")
        signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_SECONDS)  # ends this process
        try:
            outcome, fault = one(seed, subjects, folder), ""
        except BaseException:
            outcome, fault = "fault", traceback.format_exc()[-3000:]
        say(seed, outcome, fault)
    return 0


def one(seed: int, subjects: list[Path], folder: Path) -> str:
    """Make the change of a seed; say which file it was of, and how far the store came."""
    rng = random.Random(seed)
    store = fresh(rng.choice(subjects), folder / "work")
    name = mutate(rng, store)
    other = partial(fresh, subjects[0], folder / "other")
    return f"{name}: {check(rng, store, other)}"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    found = fuzz(first=arguments.first, seconds=arguments.seconds)
    for seed, fault in found.faults.items():
        print(f"seed {seed}: {fault}")
    print(f"{found.num_changes} changes, {len(found.faults)} faults; {dict(found.outcomes)}")


if __name__ == "__main__":
    main()
