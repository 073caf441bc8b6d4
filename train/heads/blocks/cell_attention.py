"""Scores of the cells of a frame, from the hidden state that looks and perhaps from the cells.

Places in code are those of Sharma, Kiros, Salakhutdinov (2015), github
kracwarlock/action-recognition-visual-attention, src/actrec.py, `lstm_cond_layer`.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from train.data.batch import InputShape


class LocationAttention(nn.Module):
    """scores_t = W h_{t−1}, eq. 4 of the paper: it looks somewhere before it sees the frame."""

    def __init__(self, hidden_size: int, num_cells: int) -> None:
        super().__init__()
        self.score = nn.Linear(hidden_size, num_cells, bias=False)

    def project(self, cubes: Float[Tensor, "b t p d"]) -> Float[Tensor, "b t p d"]:
        """Return the cubes as they are; the scores do not look at them."""
        return cubes

    def forward(
        self, hidden: Float[Tensor, "b n"], keys: Float[Tensor, "b p a"]
    ) -> Float[Tensor, "b p"]:
        """Return the scores of one frame."""
        scores: Tensor = self.score(hidden)
        return scores


class ContentAttention(nn.Module):
    """scores_t = uᵀ tanh(k(X_t) + W_h h_{t−1}), k(X) = W_x X + b, as in the released code.

    With `num_layers` > 1 (n_layers_att) as many linear layers, less one, follow on W_x X + b, each
    from `attention_size` to itself, with tanh after all of them but the last. As W_x X + b has none
    either, two layers are one linear map in two factors, and three are W₃ tanh(W₂ (W_x X + b) +
    b₂) + b₃. arctic-captions has tanh after the last one too, before W_h h_{t−1} is added.

    The code adds a scalar to all scores, which the softmax cancels; it is left out.
    """

    def __init__(
        self, hidden_size: int, dim: int, attention_size: int, *, num_layers: int = 1
    ) -> None:
        super().__init__()
        self.keys = nn.Linear(dim, attention_size)
        self.query = nn.Linear(hidden_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)
        self.deeper = nn.ModuleList(
            nn.Linear(attention_size, attention_size) for _ in range(num_layers - 1)
        )
        for name, parameter in self.deeper.named_parameters():
            init = nn.init.orthogonal_ if name.endswith("weight") else nn.init.zeros_
            init(parameter)

    def project(self, cubes: Float[Tensor, "b t p d"]) -> Float[Tensor, "b t p a"]:
        """Return k(X): of all frames at once, before the loop."""
        keys: Tensor = self.keys(cubes)
        for index, layer in enumerate(self.deeper):
            keys = layer(keys.tanh() if index else keys)
        return keys

    def forward(
        self, hidden: Float[Tensor, "b n"], keys: Float[Tensor, "b p a"]
    ) -> Float[Tensor, "b p"]:
        """Return the scores of one frame."""
        scores: Tensor = self.score((keys + self.query(hidden).unsqueeze(1)).tanh())
        return scores.squeeze(-1)


def build_attention(
    form: Literal["location", "content"],
    hidden_size: int,
    shape: InputShape,
    attention_size: int,
    *,
    num_layers: int = 1,
) -> LocationAttention | ContentAttention:
    """Return an attention over the cells of the top cube."""
    grid_size, dim = shape.top
    if form == "location":
        return LocationAttention(hidden_size, grid_size**2)
    return ContentAttention(hidden_size, dim, attention_size, num_layers=num_layers)
