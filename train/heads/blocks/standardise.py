"""Features to zero mean and unit variance of the training set.

Pooled cubes are about 80 % zeros before pooling and their channels differ in scale by orders of
magnitude, so that plain gradient descent would learn the loud ones only.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Standardise(nn.Module):
    """(x − mean) / std per feature; the identity until `fit` is called.

    A channel that is dead in the training set may fire later, and would then be blown up beyond all
    others: no std counts as less than `eps` times the largest.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_features: int, *, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))

    def forward(self, features: Float[Tensor, "*axes f"]) -> Float[Tensor, "*axes f"]:
        """Return the features standardised."""
        return (features - self.mean) / self.std

    @torch.no_grad()
    def fit(self, batches: Iterable[Float[Tensor, "_ f"]]) -> None:
        """Set mean and std (of the population) to those of all rows.

        Raises:
            ValueError: there was no row.
        """
        count, total, squares = 0, self.mean.double() * 0, self.mean.double() * 0
        for rows in batches:
            count += len(rows)
            total += rows.double().sum(0)
            squares += rows.double().square().sum(0)
        if count == 0:
            raise ValueError("statistics need at least one valid frame, got none")
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        largest = std.max() if std.numel() else std.sum()
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=self.eps * largest) if largest > 0 else torch.ones_like(std))
