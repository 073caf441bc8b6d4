"""What heads have in common that classify every frame and take the mean of the logits."""

from abc import abstractmethod
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from train.data.batch import Batch, HeadOutput
from train.heads.base import Head
from train.heads.blocks.masked import masked_mean
from train.heads.blocks.standardise import PooledClassifier


class ConsensusHead(Head):
    """Features of a frame, dropout, linear layer, mean logits over the valid frames; (B, 1, C).

    The mean is taken before the softmax (TSN's consensus). A subclass sets `classify`.
    """

    classify: PooledClassifier

    @abstractmethod
    def features(self, batch: Batch) -> tuple[Float[Tensor, "b t f"], dict[str, Tensor]]:
        """Return the features of each frame, and the maps by which they came about."""

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit mean and std of what the layers, not yet trained, make of the training clips."""
        with torch.no_grad():
            self.classify.fit(masked_mean(self.features(batch)[0], batch.mask) for batch in batches)

    def forward(self, batch: Batch) -> HeadOutput:
        """See `Head`."""
        features, maps = self.features(batch)
        logits = masked_mean(self.classify(features), batch.mask).unsqueeze(1)
        return HeadOutput(logits=logits, maps=maps, losses={})
