"""Convolutional LSTM (Shi et al. 2015), the form without peepholes: one step at a time."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from train.heads.blocks.conv3x3 import Conv3x3


class ConvLSTMCell(nn.Module):
    """3×3 convolutions of input and hidden state to gates stacked i, f, o, g.

    Both are for the caller to apply: `from_input` to all frames at once, as it does not depend on
    the state (it is linear, so it may also be applied before a weighted mean), and `from_hidden`,
    prepared once, at every step.
    """

    def __init__(self, dim: int, hidden_size: int) -> None:
        super().__init__()
        self.from_input = Conv3x3(dim, 4 * hidden_size, bias=False)
        self.from_hidden = Conv3x3(hidden_size, 4 * hidden_size)

    def step(
        self, gates: Float[Tensor, "b gates k k"], cell_state: Float[Tensor, "b n k k"]
    ) -> tuple[Float[Tensor, "b n k k"], Float[Tensor, "b n k k"]]:
        """Return the next hidden and cell state; `gates` is the sum of both convolutions."""
        i, f, o, g = gates.chunk(4, dim=1)
        cell_state = torch.addcmul(f.sigmoid() * cell_state, i.sigmoid(), g.tanh())
        return o.sigmoid() * cell_state.tanh(), cell_state
