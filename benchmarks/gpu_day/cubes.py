"""Step 3: cubes of this device against those of the CPU in fp32, worst cosine of a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import torch

from benchmarks.gpu_day import networks
from benchmarks.gpu_day.step import Row, Setting, run_step
from extract.compute import CubeComputer
from extract.precision import fixed_frames
from features_store.diff import frame_cosines
from features_store.spec import Precision


def rows(setting: Setting) -> Iterator[Row]:
    for name in networks.names(setting):
        backbone, weights = networks.load(name, setting)
        cpu = networks.computer_of(backbone, torch.device("cpu"), batch_size=4)
        pixels = fixed_frames(cpu.preprocessing.input_size)
        expected = cpu(pixels).cubes
        for precision in ("fp32", "bf16"):
            on_device = networks.computer_of(
                backbone, setting.device, batch_size=16, precision=cast(Precision, precision)
            )
            for kind, computer in kinds(on_device, setting):
                row: Row = {"network": name, "weights": weights, "precision": precision}
                row |= {"run": kind, "worst cosine": None, "largest error": None}
                try:
                    cubes = computer()(pixels).cubes
                except Exception as err:  # one that fails says so and costs no other
                    yield row | {"note": f"{type(err).__name__}: {str(err).splitlines()[0]}"}
                    continue
                pairs = [(cubes[layer], expected[layer]) for layer in expected]
                yield row | {
                    "worst cosine": round(min(float(frame_cosines(*p).min()) for p in pairs), 7),
                    "largest error": round(
                        max(float(abs(a - b).max() / abs(b).max()) for a, b in pairs), 7
                    ),
                }


def kinds(
    computer: CubeComputer, setting: Setting
) -> Iterator[tuple[str, Callable[[], CubeComputer]]]:
    yield "eager", lambda: computer
    if not setting.is_small:
        yield "compiled", computer.compiled


if __name__ == "__main__":
    run_step(rows)
