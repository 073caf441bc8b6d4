"""Interpretable spatio-temporal attention (Meng et al. 2019, arXiv 1810.04511).

A saliency mask says where to look, temporal attention when, a ConvLSTM reads what is left. The
authors' code cuts the gradient of its temporal attention and uses scores from which the hidden
state cancels; `energy` has the form that learns (tanh) and theirs (linear, detached).
"""

from typing import ClassVar, Literal

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import AttentionForm, AttentionMap, Head
from train.heads.blocks.conv3x3 import Conv3x3
from train.heads.blocks.masked import masked_mean, masked_softmax
from train.heads.blocks.penalties import (
    contrast_penalty,
    root_mean_unimodality_penalty,
    total_variation_penalty,
    unimodality_penalty,
)
from train.heads.blocks.recurrent import ConvLSTMCell
from train.heads.options import Dropout, NonNegativeFloat, PositiveInt
from train.heads.registry import register_head
from train.heads.soft_attention import ContentAttention


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that falls back on its running statistics when a channel has a single value."""

    def forward(self, input: Float[Tensor, "n c k k"]) -> Float[Tensor, "n c k k"]:
        """Return the channels normalised."""
        if input.numel() > self.num_features:
            return super().forward(input)
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def conv_stack(dim: int, hidden_size: int) -> nn.Sequential:
    """Return 3×3 convolution, batch norm, relu, twice: D → 2n → n; the paper's 2048, 1024, 512."""
    layers: list[nn.Module] = []
    for size_in, size_out in ((dim, 2 * hidden_size), (2 * hidden_size, hidden_size)):
        conv = Conv3x3(size_in, size_out, bias=False)
        layers += [conv, BatchNorm(size_out), nn.ReLU()]
    return nn.Sequential(*layers)


def saliency_mask(dim: int, hidden_size: int) -> nn.Sequential:
    """Return the network from frames (n, D, K, K) to masks (n, 1, K, K)."""
    last = Conv3x3(hidden_size, 1, bias=False)
    return nn.Sequential(*conv_stack(dim, hidden_size), last, nn.Sigmoid())


class LinearEnergy(nn.Module):
    """e_j = w_xᵀ GAP(x̃_j), the released code's form.

    The code adds w_hᵀ GAP(H_{s−1}) to the energies of all frames, which the softmax cancels; it is
    left out. So the weights are the same at every step. `detached` cuts their gradient, as the code
    does by a detour through numpy; `keys` then keeps its initial weights.
    """

    def __init__(self, dim: int, *, detached: bool) -> None:
        super().__init__()
        self.detached = detached
        self.keys = nn.Linear(dim, 1, bias=False)

    def forward(
        self, hidden: Float[Tensor, "b n"], keys: Float[Tensor, "b t 1"]
    ) -> Float[Tensor, "b t"]:
        """Return the energies of all frames, whatever the hidden state."""
        return (keys.detach() if self.detached else keys).squeeze(-1)


@register_head("saliency-convlstm")
class SaliencyConvLSTM(Head):
    """Saliency mask, temporal attention before every ConvLSTM step, mean over steps; (B, 1, C).

    `hidden` is the width of the ConvLSTM and of the convolutions that lead to the mask and to the
    initial state; the paper has 512, which wants a GPU. `dropout` drops a channel of a whole clip.

    `attention` takes one of the two away, as the paper's ablations do. With `temporal` there is no
    mask, all cells count as they are. With `spatial` the ConvLSTM reads frame after frame and its
    last hidden state is classified. The maps are then ones, and equal weights; their penalties are
    constants.

    Energies of the form `tanh` are e_{s,j} = vᵀ tanh(W_x GAP(x̃_j) + b + W_h GAP(H_{s−1})).

    The map "spatial" is the mask M, between 0 and 1 and not normalised, which `attention=`
    replaces; "temporal" (B, T) is the mean over steps of the temporal weights. `scaling=batch`
    makes all regularisers means over clips. `scaling=code` is the released code's: total variation
    is summed over the batch, unimodality is a mean of roots over clips and frames. So a published
    weight of total variation is, at a batch size of 30, 30 times that weight with `scaling=batch`.
    """

    source: ClassVar[str] = "Meng et al. 2019, arXiv 1810.04511, place not at hand"
    weight_decay: ClassVar[float] = 1e-4
    takes_attention: ClassVar[bool] = True
    attention_form: AttentionForm = "cell"

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        attention: Literal["spatio-temporal", "spatial", "temporal"] = "spatio-temporal",
        hidden: PositiveInt = 64,
        energy: Literal["tanh", "linear", "detached"] = "tanh",
        dropout: Dropout = 0.2,
        total_variation: NonNegativeFloat = 1e-5,
        contrast: NonNegativeFloat = 1e-4,
        unimodality: NonNegativeFloat = 1.0,
        scaling: Literal["batch", "code"] = "batch",
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        self.weigh_losses(
            total_variation=total_variation, contrast=contrast, unimodality=unimodality
        )
        self.dropout, self.scaling = dropout, scaling
        self.saliency = saliency_mask(self.dim, hidden) if attention != "temporal" else None
        self.initial_hidden = conv_stack(self.dim, hidden)
        self.initial_cell_state = conv_stack(self.dim, hidden)
        self.energy: ContentAttention | LinearEnergy | None = None
        if attention != "spatial":
            self.energy = (
                ContentAttention(hidden, self.dim, hidden)
                if energy == "tanh"
                else LinearEnergy(self.dim, detached=energy == "detached")
            )
        self.conv_lstm = ConvLSTMCell(self.dim, hidden)
        self.classify = nn.Linear(hidden, num_classes)

    def forward(self, batch: Batch, *, attention: AttentionMap | None = None) -> HeadOutput:
        """See `Head`; `attention` takes the place of the mask."""
        # Valid frames only, one behind the other: padding must not enter the batch statistics.
        frames = rearrange(self._drop_channels(batch.top)[batch.mask], "n h w d -> n d h w")
        if attention is not None:
            saliency = attention[batch.mask].unsqueeze(1)
        else:
            saliency = self.saliency(frames) if self.saliency else torch.ones_like(frames[:, :1])
        hidden, temporal = self._recur(saliency * frames, batch.mask)
        spatial = padded(saliency.squeeze(1), batch.mask)
        return HeadOutput(
            logits=self.classify(hidden).unsqueeze(1),
            maps={"spatial": spatial, "temporal": temporal},
            losses=self._losses(spatial, temporal, batch.mask),
        )

    def _drop_channels(self, cubes: Float[Tensor, "b t k k d"]) -> Float[Tensor, "b t k k d"]:
        if not (self.training and self.dropout):
            return cubes
        kept = F.dropout(torch.ones_like(cubes[:, :1, :1, :1]), self.dropout)
        return cubes * kept

    def _recur(
        self, salient: Float[Tensor, "n d k k"], mask: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b hidden"], Float[Tensor, "b t"]]:
        """Return what is read of the hidden states, and the mean over steps of temporal weights."""
        # The convolution of Σ_j w_j x̃_j is Σ_j w_j of the convolutions, here of all frames at once.
        from_inputs = padded(self.conv_lstm.from_input(salient), mask)
        pooled = reduce(salient, "n d h w -> n d", "mean")
        keys = None if self.energy is None else padded(self.energy.keys(pooled), mask)
        mean_frame = mean_over_time(salient, mask)
        hidden = self.initial_hidden(mean_frame)
        cell_state = self.initial_cell_state(mean_frame)
        from_hidden = self.conv_lstm.from_hidden.prepared()
        all_hidden, all_weights = [], []
        for step in range(mask.shape[1]):
            weights = self._weights(step, reduce(hidden, "b n h w -> b n", "mean"), keys, mask)
            from_input = einsum(weights, from_inputs, "b t, b t n h w -> b n h w")
            gates = from_input + from_hidden(hidden)
            hidden, cell_state = self.conv_lstm.step(gates, cell_state)
            all_hidden.append(reduce(hidden, "b n h w -> b n", "mean"))
            all_weights.append(weights)
        # A clip has as many steps as valid frames.
        temporal = masked_mean(torch.stack(all_weights, dim=1), mask)
        is_read = mask if self.energy is not None else last_valid(mask)
        return masked_mean(torch.stack(all_hidden, dim=1), is_read), temporal

    def _weights(
        self,
        step: int,
        hidden: Float[Tensor, "b n"],
        keys: Float[Tensor, "b t a"] | None,
        mask: Bool[Tensor, "b t"],
    ) -> Float[Tensor, "b t"]:
        """Return how much of each frame goes into a step: all of one without temporal attention."""
        if self.energy is None:
            frame = torch.zeros_like(mask, dtype=hidden.dtype)
            frame[:, step] = 1
            return frame
        return masked_softmax(self.energy(hidden, keys).unsqueeze(1), mask).squeeze(1)

    def _losses(
        self,
        spatial: Float[Tensor, "b t k k"],
        temporal: Float[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
    ) -> dict[str, Tensor]:
        variation = total_variation_penalty(spatial, mask)
        in_code = self.scaling == "code"
        return {
            "total_variation": variation.sum() if in_code else variation.mean(),
            "contrast": contrast_penalty(spatial, mask).mean(),
            "unimodality": root_mean_unimodality_penalty(temporal, mask)
            if in_code
            else unimodality_penalty(temporal, mask).mean(),
        }


def padded(values: Float[Tensor, "n *rest"], mask: Bool[Tensor, "b t"]) -> Tensor:
    """Return (B, T, …) with the n valid frames in their places, zero elsewhere."""
    zeros = values.new_zeros(*mask.shape, *values.shape[1:])
    return zeros.index_put((mask,), values)


def mean_over_time(
    frames: Float[Tensor, "n d k k"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, "b d k k"]:
    """Return the mean frame of every clip; zero for a clip without any."""
    clips: Int[Tensor, " n"] = mask.nonzero()[:, 0]
    summed = frames.new_zeros(len(mask), *frames.shape[1:]).index_add(0, clips, frames)
    return summed / rearrange(mask.sum(1).clamp(min=1), "b -> b 1 1 1").to(frames.dtype)


def last_valid(mask: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    """Return a mask of the last valid frame of every clip."""
    return mask & ~F.pad(mask[:, 1:], (0, 1))
