"""LSTM on pooled cubes: the two recurrent baselines of Sharma et al. (2015), section 4.1."""

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import Head
from train.heads.blocks.differences import Diffs, diff_features, diff_size
from train.heads.blocks.masked import masked_mean
from train.heads.blocks.recurrent import InitialState, OutputModule, StackedLSTM
from train.heads.blocks.standardise import Standardise
from train.heads.options import Dropout, PositiveInt
from train.heads.registry import register_head


class PooledLSTM(Head):
    """Cells pooled per frame, a stack of LSTM layers, logits per step.

    The state starts from the mean cube, as with soft attention. With `diffs` the absolute
    differences are appended to every step's input, standardised because their unit is not that of
    a cube.
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
        layers: PositiveInt = 1,
        dropout: Dropout = 0.5,
        diffs: Diffs = "none",
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        num_diffs = diff_size(diffs, shape)
        self.diffs: Diffs = diffs
        self.standardise = Standardise(num_diffs)
        self.initial_state = InitialState(self.dim, hidden, num_layers=layers)
        self.lstm = StackedLSTM(self.dim + num_diffs, hidden, num_layers=layers)
        self.output = OutputModule(hidden, num_classes, dropout=dropout)

    def condense(self, batch: Batch) -> dict[str, Tensor]:
        """Return pooled frames (B, T, D), their differences (B, T, F) and the mean cube (B, D)."""
        return {
            "frames": batch.frames if self.pool == "mean" else batch.top.amax((2, 3)),
            "diffs": diff_features(batch, self.diffs),
            "mean": masked_mean(batch.frames, batch.mask),
        }

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit mean and std of the differences to the training frames."""
        if self.diffs != "none":
            self.standardise.fit(self.condensed(b)["diffs"][b.mask] for b in batches)

    def forward(self, batch: Batch) -> HeadOutput:
        """See `Head`."""
        clip = self.condensed(batch)
        inputs = torch.cat([clip["frames"], self.standardise(clip["diffs"])], dim=-1)
        hidden = self.lstm(inputs, self.initial_state(clip["mean"]))
        return HeadOutput(logits=self.output(hidden), maps={}, losses={})


@register_head("avg-lstm")
class AvgLSTM(PooledLSTM):
    """The mean over cells at every step: soft attention that looks everywhere alike."""

    pool = "mean"


@register_head("max-lstm")
class MaxLSTM(PooledLSTM):
    """The maximum over cells of each channel at every step."""

    pool = "max"
