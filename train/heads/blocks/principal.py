"""Principal components of cells, fitted to the training set."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PrincipalComponents(nn.Module):
    """(x − mean) V, V the directions of the largest variance; of unit length, nothing is whitened.

    Until `fit` is called V takes the first values as they are.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, num_features: int, num_components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("directions", torch.eye(num_features, num_components))

    def forward(self, features: Float[Tensor, "*axes f"]) -> Float[Tensor, "*axes n"]:
        """Return the components, that of the largest variance first."""
        # (x − m) V = x V − m V: no copy of x
        components: Tensor = features @ self.directions
        return components - self.mean @ self.directions

    @torch.no_grad()
    def fit(self, batches: Iterable[Float[Tensor, "_ f"]]) -> None:
        """Set mean and directions to those of all rows.

        Raises:
            ValueError: there was no row.
        """
        count, origin = 0, None
        total = self.mean.double() * 0
        products = torch.outer(total, total)
        for rows in batches:
            if not len(rows):
                continue
            # About a mean of some rows, since what is far from zero loses its digits in squares.
            origin = rows.mean(0) if origin is None else origin
            centred = rows - origin
            count += len(rows)
            total += centred.double().sum(0)
            products += (centred.T @ centred).double()
        if origin is None:
            raise ValueError("components need at least one valid frame, got none")
        mean = total / count
        _, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        chosen = vectors.flip(1)[:, : self.directions.shape[1]]
        # The sign of an eigenvector is free: the largest entry is to be positive.
        largest = chosen.gather(0, chosen.abs().argmax(0, keepdim=True))
        self.directions.copy_(chosen * largest.sign())
        self.mean.copy_(origin + mean)
