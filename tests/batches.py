"""Batches without a file behind them: given cubes, or random ones in float64."""

import torch
from torch import nn

from train.data.batch import Batch


def all_valid(cubes):
    """The mask of cubes without padding."""
    return torch.ones(cubes.shape[:2], dtype=torch.bool)


def batch_of(*cubes):
    """A batch without padding, of one layer or more; the last is the top."""
    names = [f"layer{index}" for index in range(len(cubes))]
    return Batch(dict(zip(names, cubes, strict=True)), diffs=None, mask=all_valid(cubes[-1]))


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def random_batch(*, num_frames=4, grid=3, dim=6):
    """Two clips."""
    return batch_of(randn(2, num_frames, grid, grid, dim))


def padded_batch():
    """The same clips, of which the second has two frames."""
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    return Batch(random_batch().cubes, diffs=None, mask=mask)


def small_tail(dim):
    """What a network might have after a layer: a strided convolution, a batch norm with statistics.

    A convolution before a norm in evaluation mode needs its bias.
    """
    norm = nn.BatchNorm2d(6)
    nn.init.uniform_(norm.running_mean, 0, 0.1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return nn.Sequential(nn.Conv2d(dim, 6, 3, stride=2, padding=1), norm, nn.ReLU())
