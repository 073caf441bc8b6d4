"""`--compile`: whether extraction runs a compiled backbone, found out once for a kind of machine.

What was compiled, and what came of it, is kept below ``~/.cache/cubereel/compiled``. Compiling is
no part of a spec: it rounds otherwise, no more than another CPU does, and that is seen to first.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, fields
from pathlib import Path

from extract.compute.compiled import (
    CompilingTooLongError,
    compile_in_child,
    compiling_digest,
    first_line,
    load_compiled,
    machine_digest,
)
from extract.compute.computer import CubeComputer
from extract.compute.lanes import ComputeLanes
from extract.compute.own_folder import require_own_folder
from extract.compute.precision import MIN_COSINE, compare_computers
from features_store.errors import MachineError, UsageError
from features_store.format.inputs import parse_json, read_file
from features_store.format.outputs import write_atomically
from features_store.plain import from_plain, to_plain
from pipelines.machine.cache_folder import cache_folder
from pipelines.machine.calibration import time_backbone
from pipelines.machine.choices import Compile

logger = logging.getLogger("cubereel")
COMPILE_SECONDS = 300.0
LONG_SECONDS = 600.0  # of computing, from which on `auto` takes the minute that compiling takes
MIN_GAIN = 1.05  # a network that is hardly faster is not worth the seconds of loading it
TIMED_SECONDS = 3.0


@dataclass(frozen=True)
class Verdict:
    """What came of compiling a network; kept, so that it is tried and timed once.

    Attributes:
        problem: why it cannot be used; empty if it can.
        worst_cosine: of a frame's cubes to those of the network as it is.
        compiled_rate, eager_rate: frames per second.
    """

    problem: str = ""
    worst_cosine: float = 1.0
    compiled_rate: float = 1.0
    eager_rate: float = 1.0

    @property
    def gain(self) -> float:
        """How many times as fast it is."""
        return self.compiled_rate / self.eager_rate


def choose_compiled(
    asked: Compile,
    computer: CubeComputer,
    *,
    num_frames: float,
    seconds_left: float | None = None,
) -> CubeComputer:
    """Return the computer, compiled or as it is; ``auto`` compiles where that is seen to be faster.

    Args:
        num_frames: that there are to compute; for a few it is not worth while to find out.
        seconds_left: until the run ends whatever is left; None if it does not.

    Raises:
        MachineError, UsageError: it is asked for and not possible.
    """
    if asked == "off":
        return computer
    try:
        is_short = seconds_left is not None and seconds_left < LONG_SECONDS
        chosen, why = _choose(asked, computer, 0 if is_short else num_frames)
    except (MachineError, UsageError) as err:
        if asked == "on":
            raise
        chosen, why = computer, str(err)
    logger.info("the backbone runs %s (%s)", "compiled" if chosen.is_compiled else "eagerly", why)
    return chosen


def use_compiled(computer: CubeComputer) -> CubeComputer:
    """Return the computer compiled, as `choose_compiled` has found it to be of use.

    Raises:
        MachineError: compiling fails.
    """
    return load_compiled(computer, _folder_of(computer))


def _folder_of(computer: CubeComputer) -> Path:
    return cache_folder("compiled") / machine_digest(computer)


def _choose(asked: Compile, computer: CubeComputer, num_frames: float) -> tuple[CubeComputer, str]:
    folder = _folder_of(computer)
    require_own_folder(folder)
    verdict_file = folder / f"{compiling_digest(computer)}.json"
    verdict = read_verdict(verdict_file)
    if asked == "auto" and verdict is None and _is_short(computer, num_frames):
        return computer, f"less than {LONG_SECONDS:.0f} s of computing"
    if verdict is None or (asked == "on" and verdict.problem):
        logger.info("compiling for this machine, once, for at most %g s", COMPILE_SECONDS)
        verdict = _try_to_compile(computer, folder)
        _write_verdict(verdict_file, verdict)
    if verdict.problem:
        advice = "; `compile` on tries again" if asked == "auto" else ""
        raise MachineError(verdict.problem + advice)
    why = f"{verdict.gain:.2f} times as fast, worst cosine {verdict.worst_cosine:.6f}"
    if asked == "auto" and verdict.gain < MIN_GAIN:
        return computer, f"compiled it is {why}"
    return load_compiled(computer, folder), why


def _is_short(computer: CubeComputer, num_frames: float) -> bool:
    if num_frames < LONG_SECONDS:  # a frame a second
        return True
    rate = time_backbone(computer, seconds=1.0).frames_per_second
    return num_frames / rate < LONG_SECONDS


def _try_to_compile(computer: CubeComputer, folder: Path) -> Verdict:
    """Compile, compare and time.

    Raises:
        MachineError: for a reason that may be gone the next time, such as a missing compiler.
    """
    try:
        require_own_folder(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        compile_in_child(computer, folder, seconds=COMPILE_SECONDS)
    except CompilingTooLongError as err:
        return Verdict(str(err))
    except OSError as err:
        raise MachineError(f"cannot compile into {folder}: {err.strerror}") from err
    compiled = load_compiled(computer, folder)
    try:
        with ComputeLanes[None, None](computer.device):
            worst = compare_computers(computer, compiled)
        if not worst >= MIN_COSINE:
            return Verdict(f"compiled cubes differ: worst cosine {worst:.5f}, {MIN_COSINE} needed")
        rates = [
            time_backbone(each, seconds=TIMED_SECONDS).frames_per_second
            for each in (compiled, computer)
        ]
    except RuntimeError as err:  # torch's, of code that it made itself
        return Verdict(f"what was compiled cannot be run: {first_line(err)}")
    return Verdict("", worst, *rates)


def read_verdict(path: Path) -> Verdict | None:
    """Return what was written down; None where nothing is that can be understood."""
    try:
        said = parse_json(read_file(path, most_bytes=2**16))
        verdict = from_plain(Verdict, said)
    except (OSError, ValueError):
        return None
    numbers = (verdict.worst_cosine, verdict.compiled_rate, verdict.eager_rate)
    is_whole = len(said) == len(fields(Verdict))  # a field that is missing is not the default
    return verdict if is_whole and min(numbers) > 0 else None


def _write_verdict(path: Path, verdict: Verdict) -> None:
    other = read_verdict(path)
    if verdict.problem and other is not None and not other.problem:
        return  # of a run beside this one
    try:
        write_atomically(path, json.dumps(to_plain(verdict)).encode())
    except OSError as err:
        logger.warning("what came of compiling is not remembered: %s", err)
