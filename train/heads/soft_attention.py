"""Action recognition using visual attention (Sharma, Kiros, Salakhutdinov 2015, arXiv 1511.04119).

The paper's equation 4 and the released code disagree on what the attention sees; both are here, as
`attention=location` (the paper) and `attention=content` (the code). The query is the top layer's
hidden state.
"""

from typing import ClassVar, Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from train.batch import Batch, HeadOutput, InputShape
from train.heads.base import Head
from train.heads.masked import mean_cube, zero_masked
from train.heads.options import check_option
from train.heads.recurrent import InitialState, OutputModule, StackedLSTM
from train.heads.registry import register_head
from train.losses import doubly_stochastic_penalty


class LocationAttention(nn.Module):
    """scores_t = W h_{t−1}, eq. 4 of the paper: it looks somewhere before it sees the frame."""

    def __init__(self, hidden_size: int, num_cells: int) -> None:
        super().__init__()
        self.score = nn.Linear(hidden_size, num_cells, bias=False)

    def keys(self, cubes: Float[Tensor, "b t p d"]) -> Float[Tensor, "b t p d"]:
        """Return the cubes as they are; the scores do not look at them."""
        return cubes

    def forward(
        self, hidden: Float[Tensor, "b n"], keys: Float[Tensor, "b p a"]
    ) -> Float[Tensor, "b p"]:
        """Return the scores of one frame."""
        scores: Tensor = self.score(hidden)
        return scores


class ContentAttention(nn.Module):
    """scores_t = uᵀ tanh(W_x X_t + b + W_h h_{t−1}), as in the released code.

    The code adds a scalar to all scores, which the softmax cancels; it is left out.
    """

    def __init__(self, hidden_size: int, dim: int, attention_size: int) -> None:
        super().__init__()
        # W_x X + b: of all frames at once, before the loop
        self.keys = nn.Linear(dim, attention_size)
        self.query = nn.Linear(hidden_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def forward(
        self, hidden: Float[Tensor, "b n"], keys: Float[Tensor, "b p a"]
    ) -> Float[Tensor, "b p"]:
        """Return the scores of one frame."""
        scores: Tensor = self.score((keys + self.query(hidden).unsqueeze(1)).tanh())
        return scores.squeeze(-1)


@register_head("soft-attention")
class SoftAttention(Head):
    """A stack of LSTM layers whose input is the attention-weighted mean of the cells.

    The map "spatial" is l_{t,i} of the paper; `attention=` replaces it. `attention_size` is the
    width of content attention's hidden layer, which the released code sets to D.

    The loss "doubly_stochastic" is Σ_i (1 − Σ_t l_{t,i})² divided by the number of valid frames,
    averaged over clips, and `doubly_stochastic` its weight λ. The paper's loss of a clip is
    Σ_t CE_t + λ Σ_i (…)²; ours takes the mean of CE over time, so the penalty is divided too,
    and λ means what it means in the paper's formula. The released code also divides the penalty by
    the number of cells (49): λ of a published script is λ/49 here.
    """

    learning_rate: ClassVar[float] = 1e-3
    weight_decay: ClassVar[float] = 1e-5
    takes_attention: ClassVar[bool] = True

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        attention: Literal["location", "content"] = "location",
        attention_size: int = 128,
        layers: int = 1,
        hidden: int = 128,
        dropout: float = 0.5,
        doubly_stochastic: float = 0.0,
        inverse_temperature: float = 1.0,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        check_option("layers", layers, at_least=1)
        check_option("attention_size", attention_size, at_least=1)
        check_option("hidden", hidden, at_least=1)
        check_option("dropout", dropout, at_least=0, below=1)
        check_option("inverse_temperature", inverse_temperature, at_least=0)
        grid_size, dim = shape.top
        self.weigh_losses(doubly_stochastic=doubly_stochastic)
        self.inverse_temperature = inverse_temperature
        self.attend: LocationAttention | ContentAttention = (
            LocationAttention(hidden, grid_size**2)
            if attention == "location"
            else ContentAttention(hidden, dim, attention_size)
        )
        self.initial_state = InitialState(dim, hidden, num_layers=layers)
        self.lstm = StackedLSTM(dim, hidden, num_layers=layers)
        self.output = OutputModule(hidden, num_classes, dropout=dropout)

    def forward(
        self, batch: Batch, *, attention: Float[Tensor, "b t k k"] | None = None
    ) -> HeadOutput:
        """See `Head`; `attention` is used as given, it need not sum to one.

        Raises:
            UsageError: `attention` has another shape than the cubes' (B, T, K, K).
        """
        self.check_attention(attention, batch)
        hidden, weights = self._recur(batch, attention)
        spatial = zero_masked(weights, batch.mask)
        penalty = doubly_stochastic_penalty(spatial, batch.mask)
        num_frames = batch.mask.sum(1).clamp(min=1)
        return HeadOutput(
            logits=self.output(hidden),
            maps={"spatial": spatial},
            losses={"doubly_stochastic": (penalty / num_frames).mean()},
        )

    def _recur(
        self, batch: Batch, attention: Float[Tensor, "b t k k"] | None
    ) -> tuple[Float[Tensor, "b t n"], Float[Tensor, "b t k k"]]:
        """Return the top layer's hidden states and the weights that led to them."""
        cubes = rearrange(batch.top, "b t h w d -> b t (h w) d")
        hidden: list[Tensor] = []
        state = self.initial_state(mean_cube(batch.top, batch.mask))
        # Whatever does not depend on the state is computed here, for all frames at once.
        keys = self.attend.keys(cubes) if attention is None else cubes
        weights: list[Tensor] = []
        for t, (frame, frame_keys) in enumerate(zip(cubes.unbind(1), keys.unbind(1), strict=True)):
            if attention is None:
                top_hidden, _ = state[-1]
                scores = self.inverse_temperature * self.attend(top_hidden, frame_keys)
                weights.append(scores.softmax(dim=-1))
            else:
                weights.append(rearrange(attention[:, t], "b h w -> b (h w)"))
            state = self.lstm.step(einsum(weights[-1], frame, "b p, b p d -> b d"), state)
            hidden.append(state[-1][0])
        grid = rearrange(torch.stack(weights, 1), "b t (h w) -> b t h w", h=batch.top.shape[2])
        return torch.stack(hidden, 1), grid
