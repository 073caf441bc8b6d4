"""LSTM on pooled cubes: the two recurrent baselines of Sharma et al. (2015), section 4.1."""

from typing import ClassVar, Literal

from torch import Tensor

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import Head
from train.heads.blocks.masked import masked_mean
from train.heads.blocks.recurrent import InitialState, OutputModule, StackedLSTM
from train.heads.options import Depth, Dropout, PositiveInt
from train.heads.registry import register_head


class PooledLSTM(Head):
    """Cells pooled per frame, a stack of LSTM layers, logits per step.

    The state starts from the mean cube, as with soft attention.
    """

    pool: ClassVar[Literal["mean", "max"]]
    source: ClassVar[str] = "Sharma, Kiros, Salakhutdinov 2015, arXiv 1511.04119, section 4.1"
    weight_decay: ClassVar[float] = 1e-5

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        hidden: PositiveInt = 128,
        layers: Depth = 1,
        dropout: Dropout = 0.5,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        self.initial_state = InitialState(self.dim, hidden, num_layers=layers)
        self.lstm = StackedLSTM(self.dim, hidden, num_layers=layers)
        self.output = OutputModule(hidden, num_classes, dropout=dropout)

    def condense(self, batch: Batch) -> dict[str, Tensor]:
        """Return pooled frames (B, T, D) and the mean cube (B, D)."""
        return {
            "frames": batch.frames if self.pool == "mean" else batch.top.amax((2, 3)),
            "mean": masked_mean(batch.frames, batch.mask),
        }

    def forward(self, batch: Batch) -> HeadOutput:
        """See `Head`."""
        clip = self.condensed(batch)
        hidden = self.lstm(clip["frames"], self.initial_state(clip["mean"]))
        return HeadOutput(logits=self.output(hidden), maps={}, losses={})


@register_head("avg-lstm")
class AvgLSTM(PooledLSTM):
    """The mean over cells at every step: soft attention that looks everywhere alike."""

    pool = "mean"


@register_head("max-lstm")
class MaxLSTM(PooledLSTM):
    """The maximum over cells of each channel at every step."""

    pool = "max"
