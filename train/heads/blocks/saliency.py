"""Parts of the saliency head: the network of the mask, and linear energies of frames.

Meng et al. 2019, arXiv 1810.04511, and the authors' code. Shapes: n frames, b clips.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from train.heads.blocks.conv3x3 import Conv3x3


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
