"""Interpretable spatio-temporal attention (Meng et al. 2019, arXiv 1810.04511).

A saliency mask says where to look, temporal attention when, a ConvLSTM reads what is left. The
authors' code has two versions. In the one of the paper temporal attention stands before every step;
that code cuts the gradient and uses scores from which the hidden state cancels: `energy` has the
form that learns (tanh) and theirs (linear, detached). In the other it stands after the ConvLSTM.
"""

from typing import ClassVar, Literal

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from features_store.errors import UsageError
from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import AttentionForm, AttentionMap, Head
from train.heads.blocks.cell_attention import ContentAttention
from train.heads.blocks.conv3x3 import Conv3x3
from train.heads.blocks.masked import masked_mean, masked_softmax
from train.heads.blocks.penalties import (
    contrast_penalty,
    root_mean_unimodality_penalty,
    size_penalty,
    total_variation_penalty,
    unimodality_penalty,
)
from train.heads.blocks.recurrent import Conv1x1, ConvLSTMCell
from train.heads.blocks.saliency import LinearEnergy, conv_stack, saliency_mask
from train.heads.blocks.valid_frames import last_valid, mean_over_time, padded
from train.heads.map_meanings import FRAMES_COUNT, MapMeaning, MapMeanings
from train.heads.options import Dropout, NonNegativeFloat, PositiveInt
from train.heads.registry import register_head


@register_head("saliency-convlstm")
class SaliencyConvLSTM(Head):
    """Saliency mask, temporal attention, ConvLSTM, mean over cells and steps; (B, 1, C).

    `hidden` is the width of the ConvLSTM and of the convolutions that lead to the mask and to the
    initial state; the paper has 512, which wants a GPU. `dropout` drops a channel of a whole clip.

    With `temporal` "before", every step reads Σ_j w_j x̃_j, from energies of the form `energy`:
    `tanh` is e_{s,j} = vᵀ tanh(W_x GAP(x̃_j) + b + W_h GAP(H_{s−1})). The mean over steps of GAP H_s
    is classified. With "after", the authors' first version, the ConvLSTM reads frame after frame
    from a state of zeros, and Σ_t w_t GAP H_t is classified, w = softmax_t(uᵀ GAP H_t).

    `attention` takes one of the two away, as the paper's ablations do. With `temporal` there is no
    mask, all cells count as they are. With `spatial` the ConvLSTM reads frame after frame and its
    last hidden state is classified; `temporal` then says what it starts from. The maps are then
    ones, and equal weights; their penalties are constants.

    With `recurrence` "vector" an LSTM of GAP x̃ stands for the ConvLSTM; the initial state is that
    of the ConvLSTM, pooled too.

    The map "spatial" is the mask M, between 0 and 1 and not normalised, which `attention=`
    replaces; "temporal" (B, T) is w, with "before" its mean over steps. `scaling=batch` makes all
    regularisers means over clips. `scaling=code` is the released code's: total variation is summed
    over the batch, unimodality is a mean of roots over clips and frames. The published weight of
    total variation, 1e-5, is of a sum over 30 clips: 3e-4 with `scaling=batch`, the default. With
    `scaling=code` give total_variation=1e-5. `mask_l1` is the weight of Σ M, a mean over clips in
    both; the authors' script of HMDB51 has 1e-5, the others have none.
    """

    source: ClassVar[str] = "Meng et al. 2019, arXiv 1810.04511, place not at hand"
    learning_rate: ClassVar[float] = 1e-4
    weight_decay: ClassVar[float] = 1e-4
    takes_attention: ClassVar[bool] = True
    attention_form: AttentionForm = "cell"
    map_meanings: ClassVar[MapMeanings] = {
        "spatial": MapMeaning("how much of each place its mask lets through", "level"),
        "temporal": FRAMES_COUNT,
    }

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        attention: Literal["spatio-temporal", "spatial", "temporal"] = "spatio-temporal",
        temporal: Literal["before", "after"] = "before",
        recurrence: Literal["conv", "vector"] = "conv",
        hidden: PositiveInt = 64,
        energy: Literal["tanh", "linear", "detached"] = "tanh",
        dropout: Dropout = 0.2,
        total_variation: NonNegativeFloat = 3e-4,
        contrast: NonNegativeFloat = 1e-4,
        unimodality: NonNegativeFloat = 1.0,
        mask_l1: NonNegativeFloat = 0.0,
        scaling: Literal["batch", "code"] = "batch",
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        if temporal == "after" and energy != "tanh":
            raise UsageError(f"option energy={energy} is of temporal=before; 'after' has one form")
        self.weigh_losses(
            total_variation=total_variation,
            contrast=contrast,
            unimodality=unimodality,
            mask_l1=mask_l1,
        )
        self.dropout, self.scaling, self.recurrence = dropout, scaling, recurrence
        self.saliency = saliency_mask(self.dim, hidden) if attention != "temporal" else None
        self.initial_hidden: nn.Sequential | None = None
        self.initial_cell_state: nn.Sequential | None = None
        self.energy: ContentAttention | LinearEnergy | None = None
        self.score_states: nn.Linear | None = None
        attends = attention != "spatial"
        if temporal == "before":
            self.initial_hidden = conv_stack(self.dim, hidden)
            self.initial_cell_state = conv_stack(self.dim, hidden)
            self.energy = energy_of(energy, self.dim, hidden) if attends else None
        elif attends:
            self.score_states = nn.Linear(hidden, 1, bias=False)  # the softmax cancels a bias
        conv = Conv3x3 if recurrence == "conv" else Conv1x1
        self.conv_lstm = ConvLSTMCell(self.dim, hidden, conv=conv)
        self.classify = nn.Linear(hidden, num_classes)

    def forward(self, batch: Batch, *, attention: AttentionMap | None = None) -> HeadOutput:
        """See `Head`; `attention` takes the place of the mask."""
        # Valid frames only, one behind the other: padding must not enter the batch statistics.
        frames = rearrange(self._drop_channels(batch.top)[batch.mask], "n h w d -> n d h w")
        if attention is not None:
            saliency = attention[batch.mask].unsqueeze(1)
        else:
            saliency = self.saliency(frames) if self.saliency else torch.ones_like(frames[:, :1])
        states, weights = self._recur(saliency * frames, batch.mask)
        hidden, temporal = self._read(states, weights, batch.mask)
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
    ) -> tuple[Float[Tensor, "b t hidden"], Float[Tensor, "b steps t"] | None]:
        """Return the hidden states, and of each step how much of each frame it read, if not one."""
        # The convolution of Σ_j w_j x̃_j is Σ_j w_j of the convolutions, here of all frames at once.
        from_inputs = padded(self.conv_lstm.from_input(self._reduced(salient)), mask)
        pooled = reduce(salient, "n d h w -> n d", "mean")
        keys = None if self.energy is None else padded(self.energy.keys(pooled), mask)
        hidden, cell_state = self._initial_state(salient, mask, like=from_inputs)
        from_hidden = self.conv_lstm.from_hidden.prepared()
        all_hidden, all_weights = [], []
        for step in range(mask.shape[1]):
            from_input = from_inputs[:, step]
            if self.energy is not None:
                energies = self.energy(reduce(hidden, "b n h w -> b n", "mean"), keys)
                weights = masked_softmax(energies.unsqueeze(1), mask).squeeze(1)
                from_input = einsum(weights, from_inputs, "b t, b t n h w -> b n h w")
                all_weights.append(weights)
            gates = from_input + from_hidden(hidden)
            hidden, cell_state = self.conv_lstm.step(gates, cell_state)
            all_hidden.append(reduce(hidden, "b n h w -> b n", "mean"))
        states = torch.stack(all_hidden, dim=1)
        return states, torch.stack(all_weights, dim=1) if all_weights else None

    def _reduced(self, maps: Float[Tensor, "n c k k"]) -> Float[Tensor, "n c _ _"]:
        """Return what the recurrence sees of maps: all, or their mean as a map of one cell."""
        return maps if self.recurrence == "conv" else maps.mean((2, 3), keepdim=True)

    def _initial_state(
        self, salient: Float[Tensor, "n d k k"], mask: Bool[Tensor, "b t"], *, like: Tensor
    ) -> tuple[Float[Tensor, "b hidden _ _"], Float[Tensor, "b hidden _ _"]]:
        """Return hidden and cell state: of the mean frame, or zeros on the grid of `like`."""
        if self.initial_hidden is None or self.initial_cell_state is None:
            zeros = like.new_zeros(len(mask), like.shape[2] // 4, *like.shape[3:])
            return zeros, zeros
        mean_frame = mean_over_time(salient, mask)
        hidden, cell_state = self.initial_hidden(mean_frame), self.initial_cell_state(mean_frame)
        return self._reduced(hidden), self._reduced(cell_state)

    def _read(
        self,
        states: Float[Tensor, "b t hidden"],
        weights: Float[Tensor, "b steps t"] | None,
        mask: Bool[Tensor, "b t"],
    ) -> tuple[Float[Tensor, "b hidden"], Float[Tensor, "b t"]]:
        """Return what is classified of the hidden states, and the map "temporal"."""
        if weights is not None:  # a clip has as many steps as valid frames
            return masked_mean(states, mask), masked_mean(weights, mask)
        if self.score_states is None:
            equal = mask.to(states.dtype) / mask.sum(1, keepdim=True).clamp(min=1)
            return masked_mean(states, last_valid(mask)), equal
        temporal = masked_softmax(self.score_states(states).mT, mask).squeeze(1)
        return einsum(temporal, states, "b t, b t n -> b n"), temporal

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
            "mask_l1": size_penalty(spatial, mask).mean(),
        }


def energy_of(
    form: Literal["tanh", "linear", "detached"], dim: int, hidden_size: int
) -> ContentAttention | LinearEnergy:
    """Return what gives the energies of frames."""
    if form == "tanh":
        return ContentAttention(hidden_size, dim, hidden_size)
    return LinearEnergy(dim, detached=form == "detached")
