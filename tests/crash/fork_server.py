"""The process whose children are killed: it imports torch once and forks for every run.

``python -m tests.crash.fork_server`` reads a run a line from stdin, in JSON, and answers with a
line when the run has ended. It wants `preload.c` in LD_PRELOAD.
"""

import ctypes
import itertools
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from features_store.session import StoreSession
from features_store.shards.writer import ShardWriter
from tests.crash.runs import Kill, Outcome
from tests.crash.scenarios import CONTROLS, OUTPUTS, SCENARIOS

LIMIT_SECONDS = 60


def main() -> None:
    """Serve until stdin ends."""
    os.environ.pop("LD_PRELOAD", None)  # what a run starts is not killed by itself
    for line in sys.stdin:
        order = json.loads(line)
        outcome = run(
            order["scenario"],
            inputs=Path(order["inputs"]),
            store=Path(order["store"]),
            kill=Kill(**order["kill"]),
        )
        print(json.dumps(asdict(outcome)), flush=True)


def run(scenario: str, *, inputs: Path, store: Path, kill: Kill) -> Outcome:
    """Run a scenario in a child of this process and kill it when that is asked for."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receiver)
        os._exit(_run_in_child(scenario, inputs, store, kill, sender))
    os.close(sender)
    events = []
    with open(receiver) as lines:  # noqa: PTH123 (a descriptor)
        for line in lines:  # until the child is gone
            events.append(json.loads(line))
            if len(events) == kill.event + 1:  # without a delay it has killed itself
                time.sleep(kill.delay)
                os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Outcome(
        status,
        committed=[event["id"] for event in events if "id" in event],
        times=[event["time"] for event in events],
        calls=events[-1].get("calls", 0) if events else 0,
    )


def _run_in_child(scenario: str, inputs: Path, store: Path, kill: Kill, sender: int) -> int:
    signal.alarm(LIMIT_SECONDS)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    library = ctypes.CDLL(None)

    events_left = itertools.count(kill.event, -1)

    def report(**event: Any) -> None:
        os.write(sender, json.dumps(event | {"time": time.monotonic()}).encode() + b"\n")
        if next(events_left) == 0 and kill.delay == 0:
            os.kill(os.getpid(), signal.SIGKILL)  # from outside it could come after the next step

    ShardWriter.commit = _reported(ShardWriter.commit, report)  # type: ignore[method-assign]
    StoreSession.add_copies = _reported_copies(StoreSession.add_copies, report)  # type: ignore
    try:
        library.crash_arm(ctypes.c_long(kill.call), os.fsencode(store), ctypes.c_uint(kill.part))
        report()
        (SCENARIOS | OUTPUTS | CONTROLS)[scenario].run(inputs, store)
        report(calls=library.crash_count())
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _reported(commit: Callable[..., Any], report: Callable[..., None]) -> Callable[..., Any]:
    """Return `commit` so that it reports each video as soon as it has said it is committed."""

    def commit_and_report(*args: Any, **kwargs: Any) -> Any:
        record = commit(*args, **kwargs)
        report(id=record.id)
        return record

    return commit_and_report


def _reported_copies(add: Callable[..., Any], report: Callable[..., None]) -> Callable[..., Any]:
    """Return `add_copies` so that it reports the videos of each shard that it has added."""

    def add_and_report(writer: StoreSession, videos: Any) -> Any:
        shard = add(writer, videos)
        for video in videos:
            report(id=video.record.id)
        return shard

    return add_and_report


if __name__ == "__main__":
    main()
