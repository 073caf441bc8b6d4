"""Step 3: cubes of this device against those of the CPU in fp32, worst cosine of a frame."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch

from benchmarks.gpu_day import networks
from benchmarks.gpu_day.backbones import COMPILED_BATCH
from benchmarks.gpu_day.step import Row, Setting, run_step
from extract.compute.compiled import first_line
from extract.compute.computer import CubeComputer
from extract.compute.precision import fixed_frames
from features_store.spec import Precision
from features_store.verbs.diff import frame_cosines

Cubes = dict[str, np.ndarray]


def rows(setting: Setting) -> Iterator[Row]:
    ways = [("fp32", "eager"), ("bf16", "eager")]
    if not setting.is_small:
        ways.append(("bf16", "compiled"))
    expected: dict[str, Cubes] = {}
    for precision, run in ways:
        for name in networks.names(setting):
            backbone, weights = networks.load(name, setting)
            if name not in expected:
                cpu = networks.computer_of(backbone, torch.device("cpu"), batch_size=4)
                expected[name] = cpu(fixed_frames(cpu.preprocessing.input_size)).cubes
            # As large as in the next step, which finds what is compiled here.
            computer = networks.computer_of(
                backbone, setting.device, batch_size=16 if run == "eager" else COMPILED_BATCH,
                precision=cast(Precision, precision),
            )  # fmt: skip
            row: Row = {"network": name, "weights": weights, "precision": precision, "run": run}
            try:
                yield row | compare(computer, expected[name], is_compiled=run == "compiled")
            except Exception as err:  # one that fails says so and costs no other
                yield row | {"note": first_line(err)[:200]}


def compare(computer: CubeComputer, expected: Cubes, *, is_compiled: bool) -> Row:
    started = time.monotonic()
    computer = computer.compiled() if is_compiled else computer
    cubes = computer(fixed_frames(computer.preprocessing.input_size)).cubes
    pairs = [(cubes[layer].astype(np.float32), expected[layer]) for layer in expected]
    return {
        "worst cosine": round(min(float(frame_cosines(*pair).min()) for pair in pairs), 7),
        "largest error": round(max(float(abs(a - b).max() / abs(b).max()) for a, b in pairs), 7),
        "seconds": round(time.monotonic() - started, 1),
    }


if __name__ == "__main__":
    run_step(rows)
