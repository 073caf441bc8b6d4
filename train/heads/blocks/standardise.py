"""Features to zero mean and unit variance of the training set, and a classifier of them.

Pooled cubes are about 80 % zeros before pooling and their channels differ in scale by orders of
magnitude, so that plain gradient descent would learn the loud ones only.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it


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


class PooledClassifier(nn.Module):
    """Standardise, dropout, one linear layer.

    Its weights start as N(0, 0.001²), as in TSN and its descendants: a larger random start would
    stay in the weights of features that say nothing, and none at all would give no gradient to what
    stands before it.
    """

    def __init__(self, num_features: int, num_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.standardise = Standardise(num_features)
        self.linear = nn.Linear(num_features, num_classes)
        nn.init.normal_(self.linear.weight, std=1e-3)
        nn.init.zeros_(self.linear.bias)

    def fit(self, features: Iterable[Float[Tensor, "_ f"]]) -> None:
        """Fit mean and std to the features of the training clips."""
        self.standardise.fit(features)

    def forward(self, features: Float[Tensor, "b steps f"]) -> Float[Tensor, "b steps classes"]:
        """Return the logits of every step."""
        standard = F.dropout(self.standardise(features), self.dropout, self.training)
        logits: Tensor = self.linear(standard)
        return logits
