"""The end of a head that pools: one linear layer on standardised features."""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from train.heads.blocks.standardise import Standardise


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
