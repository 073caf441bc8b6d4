"""The linear heads: of the mean cube, which is the number to beat, and of all values of a frame."""

from collections.abc import Iterable
from typing import ClassVar

from einops import rearrange
from torch import Tensor, nn

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import Head
from train.heads.blocks.masked import masked_mean
from train.heads.blocks.standardise import Standardise
from train.heads.registry import register_head


@register_head("mean-pool")
class MeanPool(Head):
    """Mean over cells and valid frames of the top cube, standardised, one linear layer.

    The linear probe: no time, no space, no parameters but one matrix. With `motion` the mean of the
    absolute differences is all that this head can know of motion. Logits are (B, 1, C).
    """

    source: ClassVar[str] = "no paper: a linear probe"
    weight_decay: ClassVar[float] = 1e-2

    def __init__(self, *, shape: InputShape, num_classes: int) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        self.standardise = Standardise(self.dim)
        self.classify = _zero_linear(self.dim, num_classes)

    def condense(self, batch: Batch) -> dict[str, Tensor]:
        """Return what is standardised: one vector per clip."""
        return {"features": masked_mean(batch.frames, batch.mask)}

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit mean and std of the features to the training clips."""
        self.standardise.fit(self.condensed(batch)["features"] for batch in batches)

    def forward(self, batch: Batch) -> HeadOutput:
        """See `Head`."""
        logits = self.classify(self.standardise(self.condensed(batch)["features"]))
        return HeadOutput(logits=logits.unsqueeze(1), maps={}, losses={})


@register_head("softmax-regression")
class SoftmaxRegression(Head):
    """One linear layer on all K·K·D values of a frame; logits per step.

    It sees where things are, but no two frames together. With 50,176 inputs for GoogLeNet cubes one
    step of Adam moves a logit by up to 10,000 times the learning rate: hence a small one.
    """

    source: ClassVar[str] = "Sharma, Kiros, Salakhutdinov 2015, arXiv 1511.04119, section 4.1"
    learning_rate: ClassVar[float] = 3e-5
    weight_decay: ClassVar[float] = 1e-5

    def __init__(self, *, shape: InputShape, num_classes: int) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        self.classify = _zero_linear(self.grid_size**2 * self.dim, num_classes)

    def forward(self, batch: Batch) -> HeadOutput:
        """See `Head`."""
        logits = self.classify(rearrange(batch.top, "b t h w d -> b t (h w d)"))
        return HeadOutput(logits=logits, maps={}, losses={})


def _zero_linear(num_features: int, num_classes: int) -> nn.Linear:
    linear = nn.Linear(num_features, num_classes)
    # A random start would stay in the weights of all features that say nothing.
    nn.init.zeros_(linear.weight)
    return linear
