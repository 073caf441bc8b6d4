"""Softmax regression on the full cube, a baseline of Sharma et al. (2015), section 4.1."""

from typing import ClassVar

from einops import rearrange
from torch import nn

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import Head
from train.heads.registry import register_head


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
        grid_size, dim = shape.top
        self.classify = nn.Linear(grid_size**2 * dim, num_classes)
        # A random start would stay in the weights of all inputs that say nothing.
        nn.init.zeros_(self.classify.weight)

    def forward(self, batch: Batch) -> HeadOutput:
        """See `Head`."""
        logits = self.classify(rearrange(batch.top, "b t h w d -> b t (h w d)"))
        return HeadOutput(logits=logits, maps={}, losses={})
