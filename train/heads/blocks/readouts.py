"""From the hidden states of all layers to logits: what HM-AN reads out of its time scales."""

from typing import Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it


class GatedOutput(nn.Module):
    """g^ℓ = σ(w^ℓᵀ[h^1; …; h^L]), h^e = relu(Σ_ℓ g^ℓ W^e_ℓ h^ℓ), logits = W_o drop(h^e) + b_o.

    The output module of Chung et al. (2016), at every step.
    """

    def __init__(
        self, hidden_size: int, num_classes: int, *, num_layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.gates = nn.Linear(num_layers * hidden_size, num_layers, bias=False)
        self.embed = nn.Linear(num_layers * hidden_size, hidden_size, bias=False)
        self.classify = nn.Linear(hidden_size, num_classes)

    def forward(self, hidden: Float[Tensor, "b t layers n"]) -> Float[Tensor, "b t classes"]:
        """Return the logits of every step."""
        gates = self.gates(rearrange(hidden, "b t layers n -> b t (layers n)")).sigmoid()
        gated = rearrange(gates.unsqueeze(-1) * hidden, "b t layers n -> b t (layers n)")
        embedded = self.embed(F.dropout(gated, self.dropout, self.training)).relu()
        logits: Tensor = self.classify(F.dropout(embedded, self.dropout, self.training))
        return logits


class PlainOutput(nn.Module):
    """h^e = relu(W^e drop(h)), logits = W_o drop(h^e) + b_o, at every step.

    h is [h^1; …; h^L], which makes it `GatedOutput` with all gates at 1, or h^L (`is_top`).
    """

    def __init__(
        self, hidden_size: int, num_classes: int, *, num_layers: int, dropout: float, is_top: bool
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.num_read = 1 if is_top else num_layers
        self.embed = nn.Linear(self.num_read * hidden_size, hidden_size, bias=False)
        self.classify = nn.Linear(hidden_size, num_classes)

    def forward(self, hidden: Float[Tensor, "b t layers n"]) -> Float[Tensor, "b t classes"]:
        """Return the logits of every step."""
        read = rearrange(hidden[:, :, -self.num_read :], "b t layers n -> b t (layers n)")
        embedded = self.embed(F.dropout(read, self.dropout, self.training)).relu()
        logits: Tensor = self.classify(F.dropout(embedded, self.dropout, self.training))
        return logits


def build_read_out(
    form: Literal["gated", "concat", "top"],
    hidden_size: int,
    num_classes: int,
    num_layers: int,
    dropout: float,
) -> GatedOutput | PlainOutput:
    """Return a read-out of all layers, with gates or without, or of the top layer alone."""
    if form == "gated":
        return GatedOutput(hidden_size, num_classes, num_layers=num_layers, dropout=dropout)
    return PlainOutput(
        hidden_size, num_classes, num_layers=num_layers, dropout=dropout, is_top=form == "top"
    )
