"""Attentive probe: cross-attention pooling of all cells of a clip by a learned query.

Today's usual way to judge frozen features (Bardes et al. 2024, arXiv 2404.08471), without the
block's feed-forward part. It has no positions: neither cells nor frames have an order to it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from features_store.errors import UsageError
from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.base import AttentionForm, AttentionMap, Head
from train.heads.blocks.cells import CellSets
from train.heads.blocks.masked import masked_softmax, zero_masked
from train.heads.map_meanings import FRAMES_COUNT, MapMeaning, MapMeanings
from train.heads.options import Dropout, PositiveInt
from train.heads.registry import register_head


@dataclass(frozen=True)
class Tokens:
    """Vectors that are layer-normalised when they are weighed, and never by themselves.

    x̂ = (x − μ) / σ is linear in x, so that x̂·q = (x·q − μ Σq) / σ, and Σ α x̂ is the same sum of x
    with weights α / σ, less Σ α μ / σ. A copy of all of them would take longer than the rest.

    Attributes:
        means, scales: μ and 1/σ of each.
    """

    vectors: Float[Tensor, "b n d"]
    means: Float[Tensor, "b n"]
    scales: Float[Tensor, "b n"]

    def products(self, probe: Float[Tensor, "heads d"]) -> Float[Tensor, "b heads n"]:
        """Return the products of every token with some vectors."""
        plain = F.linear(self.vectors, probe)
        shifted = plain - self.means.unsqueeze(-1) * probe.sum(1)
        return (shifted * self.scales.unsqueeze(-1)).mT

    def weighted_sum(self, weights: Float[Tensor, "b heads n"]) -> Float[Tensor, "b heads d"]:
        """Return the sum of tokens by each row of weights."""
        scaled = weights * self.scales.unsqueeze(1)
        plain = torch.bmm(scaled, self.vectors)
        return plain - einsum(scaled, self.means, "b heads n, b n -> b heads").unsqueeze(-1)


class QueryPooling(nn.Module):
    """Multi-head attention of one learned query over tokens; keys and values are never computed.

    With a single query, (W_k x)·q is x·(W_kᵀ q), and Σ α W_v x is W_v Σ α x: one product with a
    vector per token and head instead of two with a matrix. The bias of the keys, which cancels in
    the softmax, is left out. Equal to `nn.MultiheadAttention` without its last projection.
    """

    def __init__(self, dim: int, hidden_size: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Parameter(torch.empty(hidden_size))
        self.key = nn.Linear(dim, hidden_size, bias=False)
        self.value = nn.Linear(dim, hidden_size)
        nn.init.normal_(self.query)
        nn.init.zeros_(self.value.bias)

    def scores(self, tokens: Tokens) -> Float[Tensor, "b heads n"]:
        """Return q·k / √size of every token, by head."""
        query = rearrange(self.query, "(heads e) -> heads e", heads=self.num_heads)
        key = rearrange(self.key.weight, "(heads e) d -> heads e d", heads=self.num_heads)
        probe = einsum(query, key, "heads e, heads e d -> heads d") / query.shape[1] ** 0.5
        return tokens.products(probe)

    def forward(
        self, tokens: Tokens, weights: Float[Tensor, "b heads n"]
    ) -> Float[Tensor, "b hidden"]:
        """Return the values' weighted sum, heads one behind the other."""
        pooled = tokens.weighted_sum(weights)
        value = rearrange(self.value.weight, "(heads e) d -> heads e d", heads=self.num_heads)
        summed = einsum(pooled, value, "b heads d, heads e d -> b heads e")
        bias = rearrange(self.value.bias, "(heads e) -> heads e", heads=self.num_heads)
        mass = reduce(weights, "b heads n -> b heads 1", "sum")
        return rearrange(summed + mass * bias, "b heads e -> b (heads e)")


@register_head("attentive-probe")
class AttentiveProbe(Head):
    """Layer-normalised cells of all valid frames, query pooling, one linear layer; (B, 1, C).

    Map "spatial" is the weight of each cell, the mean over heads; it sums to one over the clip, not
    over a frame, and `attention=` replaces it in all heads. "temporal" is its sum over cells.
    """

    source: ClassVar[str] = "Bardes et al. 2024, arXiv 2404.08471, place not at hand"
    weight_decay: ClassVar[float] = 1e-2
    takes_attention: ClassVar[bool] = True
    reads_cubes: ClassVar[bool] = True
    attention_form: AttentionForm = "clip"
    map_meanings: ClassVar[MapMeanings] = {
        "spatial": MapMeaning("where it looks, of all places in all frames", "share"),
        "temporal": FRAMES_COUNT,
    }

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        hidden: PositiveInt = 256,
        heads: PositiveInt = 8,
        dropout: Dropout = 0.5,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        check_heads(hidden, heads)
        self.dropout = dropout
        self.pool = QueryPooling(self.dim, hidden, num_heads=heads)
        self.classify = nn.Linear(hidden, num_classes)

    def condense(self, batch: Batch) -> dict[str, Tensor]:
        """Return what normalises each cell, (B, T, K, K) each: its mean, and 1 / deviation."""
        cubes = zero_masked(batch.top, batch.mask)
        # Clip by clip, since what torch normalises beside them is a copy of all cells.
        moments = [torch.native_layer_norm(clip, (self.dim,), None, None, 1e-5) for clip in cubes]
        means, scales = ([clip[i].squeeze(-1) for clip in moments] for i in (1, 2))
        return {"means": torch.stack(means), "scales": torch.stack(scales)}

    def forward(self, batch: Batch, *, attention: AttentionMap | None = None) -> HeadOutput:
        """See `Head`."""
        sets = CellSets(batch.mask, self.grid_size, "spatio-temporal")
        moments = self.condensed(batch)
        # A scale and shift of the normalised cells would be absorbed by keys and values.
        cells = Tokens(
            sets.group(batch.top), sets.from_map(moments["means"]), sets.from_map(moments["scales"])
        )
        if attention is None:
            weights = masked_softmax(self.pool.scores(cells), sets.valid)
        else:
            weights = sets.from_map(attention).unsqueeze(1).expand(-1, self.pool.num_heads, -1)
        pooled = self.pool(cells, weights)
        logits = self.classify(F.dropout(pooled, self.dropout, self.training))
        spatial = sets.to_map(weights.mean(1))
        maps = {"spatial": spatial, "temporal": reduce(spatial, "b t h w -> b t", "sum")}
        return HeadOutput(logits=logits.unsqueeze(1), maps=maps, losses={})


def check_heads(hidden: int, heads: int) -> None:
    """Raise `UsageError` unless `hidden` can be divided among `heads`."""
    if hidden % heads:
        raise UsageError(f"option 'hidden' must be a multiple of heads ({heads}), got {hidden}")
