"""A backbone compiled by Inductor, torch's compiler, for one size of batch.

A child process compiles first and leaves what it made in a folder: it may be killed when it takes
too long, and a compiler that crashes costs nothing. With that folder this process needs seconds.
"""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from extract.compute.computer import CubeComputer
from extract.compute.lanes import ComputeLanes
from extract.compute.machine import describe_machine
from extract.compute.own_folder import require_own_folder
from features_store.errors import MachineError
from features_store.spec import canonical_json

# It warns of a CUDA toolkit without a GPU, which is no concern of ours.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
# Every network that a long-lived process loads counts as one more version of the same code.
_MANY = {"recompile_limit": 10_000, "accumulated_recompile_limit": 10_000}
PACKAGES = ("cubereel", "torch", "torchvision", "timm")


class CompilingTooLongError(MachineError):
    """The compiler was ended because its time was over."""


def describe_compiling(computer: CubeComputer) -> dict[str, Any]:
    """Return what is compiled, in plain values."""
    return {
        "backbone": computer.backbone.name,
        "layers": list(computer.backbone.asked_layers),
        "precision": computer.precision,
        "device": str(computer.device),
        "batch_size": computer.batch_size,
        "num_threads": torch.get_num_threads(),  # of all lanes
        "versions": {name: version(name) for name in PACKAGES},
    }


def machine_digest(computer: CubeComputer) -> str:
    """Return a name for the kind of machine; no other kind can run what is compiled for it."""
    return _digest({"machine": describe_machine(computer.device)})


def compiling_digest(computer: CubeComputer) -> str:
    """Return a name for what is compiled, among all that is for one kind of machine."""
    return _digest(describe_compiling(computer))


def _digest(described: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(described)).hexdigest()[:32]


def compile_in_child(computer: CubeComputer, folder: Path, *, seconds: float) -> None:
    """Add to a folder what compiling the network of a computer makes.

    Raises:
        CompilingTooLongError: it took longer than `seconds`.
        MachineError: it failed, or the folder is not this user's alone to write.
    """
    require_own_folder(folder)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "extract.compute.compile_worker", str(os.getpid())],
            stdin=subprocess.PIPE, stdout=log, stderr=log,
            env={**os.environ, "PYTHONSAFEPATH": "1", "TORCHINDUCTOR_CACHE_DIR": str(folder)},
            start_new_session=True,  # so that its own children can be ended with it
        )  # fmt: skip
        try:
            process.communicate(json.dumps(describe_compiling(computer)).encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            raise CompilingTooLongError(f"compiling took longer than {seconds:g} s") from None
        finally:
            if process.poll() != 0:  # a compiler of its own may be left
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines()
    if process.returncode:
        said = lines[-1] if lines else f"exit status {process.returncode}"
        raise MachineError(f"torch's compiler failed: {said}")


def load_compiled(computer: CubeComputer, folder: Path) -> CubeComputer:
    """Return a computer whose network is compiled, by way of what lies in a folder.

    Raises:
        MachineError: compiling failed, or the folder is not this user's alone to write.
    """
    require_own_folder(folder)
    compiled = computer.compiled()
    try:
        with _cached_in(folder), torch._dynamo.config.patch(_MANY):
            compile_now(compiled)
    except MachineError:
        raise
    except Exception as err:  # a compiler raises errors of many kinds
        raise MachineError(f"torch's compiler failed: {first_line(err)}") from err
    return compiled


def compile_now(computer: CubeComputer) -> None:
    """Run one batch of black frames, as many threads to it as in extraction."""
    height, width = computer.preprocessing.input_size
    with ComputeLanes[None, None](computer.device):
        computer(torch.zeros(computer.batch_size, height, width, 3, dtype=torch.uint8))


def first_line(err: Exception) -> str:
    """Return what an error says, in one line."""
    return f"{type(err).__name__}: {(str(err).splitlines() or [''])[0]}"


@contextmanager
def _cached_in(folder: Path) -> Iterator[None]:
    name = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
