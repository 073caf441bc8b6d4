"""What every step of the GPU day is: a process that prints one row of JSON after the other.

A step prints a row as soon as it is measured, so that one that is cut off keeps what it has.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
WEIGHTS = "bvlc_googlenet.safetensors"


@dataclass(frozen=True)
class Setting:
    """Where and how large a step measures.

    Attributes:
        data: folder with clips (``clips/``) and the weights of `caffe:googlenet`, or without them.
        scratch: folder that a step may fill.
        is_small: measures seconds on tiny networks, to see that everything runs.
        seconds: that a step may take; what comes last is left out when it is over.
    """

    data: Path
    scratch: Path
    is_small: bool
    seconds: float

    @property
    def device(self) -> torch.device:
        """The first GPU, else the CPU."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def clips(self) -> list[Path]:
        """Real clips, in order of their names."""
        return sorted((self.data / "clips").rglob("*.mp4"))

    @property
    def weights(self) -> Path | None:
        """Of `caffe:googlenet`, where they came along."""
        path = self.data / WEIGHTS
        return path if path.exists() else None


def run_step(rows: Callable[[Setting], Iterator[Row]]) -> None:
    """Print the rows of a step, measured as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    setting = Setting(given.data, given.scratch, given.small, given.seconds)
    for row in rows(setting):
        print(json.dumps(row), flush=True)
