"""Weights, inputs and outputs from independent code, in float64."""

from pathlib import Path

import numpy as np
import torch

TIGHT = {"rtol": 1e-8, "atol": 1e-12}


def load_oracle(name):
    with np.load(Path(__file__).parent / "data" / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(array) for key, array in arrays.items()}
