"""Attention optimised with the correct label (poster of Sharma et al. 2015, arXiv 1511.04119).

Where would a fitted head have to look to be right? The poster shows the pictures and not the
procedure. Here the head is frozen, one number per cell and frame is free, and −Σ_t log ŷ_{t,y*} of
the label y* is minimised by Adam. Because the label is given, being right then is no accuracy. A
head that looks at a single cell (hm-an with `attention=hard`) is here given a soft attention too,
and one with an attention for each of several heads (attentive-probe) a single one for all.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from features_store.errors import UsageError
from train.data.batch import Batch, HeadOutput
from train.heads.base import AttentionForm, Head
from train.heads.blocks.cells import CellSets
from train.heads.blocks.masked import masked_softmax, zero_masked
from train.heads.blocks.penalties import total_variation_penalty


@dataclass(frozen=True)
class Attended:
    """An attention and what the head says under it.

    Attributes:
        attention: zero at masked frames.
        log_prob: Σ_t log ŷ_{t,y*} over the valid steps of each clip.
    """

    attention: Float[Tensor, "b t k k"]
    logits: Float[Tensor, "b steps classes"]
    log_prob: Float[Tensor, " b"]


@dataclass(frozen=True)
class Optimisation:
    """The head's own attention, the random one that the search started from, and what it found."""

    own: Attended
    random: Attended
    optimised: Attended


def optimise_attention(
    head: Head,
    batch: Batch,
    labels: Int[Tensor, " b"],
    *,
    seed: int = 0,
    num_steps: int = 200,
    learning_rate: float = 0.1,
) -> Optimisation:
    """Return the attention under which a head gives each clip the highest log-probability found.

    Neither parameters, buffers nor mode of the head are changed. Clips do not influence each other,
    and all start from the same random attention, so a clip's result does not depend on its batch.
    The search is local: where it fails, another attention may yet do.

    Args:
        labels: the class that each clip should get.
        seed: of the random attention: free values from N(0, 1), see `weights_of`.

    Raises:
        UsageError: the head has no attention to replace.
    """
    require_attention(head)
    was_training = head.training
    head.eval()
    try:
        start = random_values(batch, seed=seed)
        found = _ascend(head, batch, labels, start, num_steps, learning_rate)
        with torch.no_grad():
            tried = (_attended(head, batch, labels, values) for values in (None, start, found))
            return Optimisation(*tried)
    finally:
        head.train(was_training)


def require_attention(head: Head) -> None:
    """Raise `UsageError` unless the head has an attention that can be replaced."""
    if not head.takes_attention:
        raise UsageError(
            f"head {head.head_name!r} has no attention to optimise; 'soft-attention' has one"
        )


def random_values(batch: Batch, *, seed: int) -> Float[Tensor, "b t k k"]:
    """Return one draw from N(0, 1) per cell and frame, the same for every clip."""
    generator = torch.Generator().manual_seed(seed)
    num_clips, *clip_shape = batch.top.shape[:4]
    return torch.randn(clip_shape, generator=generator).to(batch.top).repeat(num_clips, 1, 1, 1)


def weights_of(
    values: Float[Tensor, "b t k k"], mask: Bool[Tensor, "b t"], form: AttentionForm
) -> Float[Tensor, "b t k k"]:
    """Return free values as attention: a softmax over frame or clip, or the sigmoid of each."""
    if form == "cell":
        return zero_masked(values.sigmoid(), mask)
    sets = CellSets(mask, values.shape[2], "spatial" if form == "frame" else "spatio-temporal")
    scores = sets.from_map(values).unsqueeze(1)
    return sets.to_map(masked_softmax(scores, sets.valid).squeeze(1))


def label_log_prob(
    output: HeadOutput, labels: Int[Tensor, " b"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Return Σ_t log ŷ_{t,y*} over valid steps; a single step speaks for the whole clip."""
    log_probs = output.logits.log_softmax(-1)
    of_label = log_probs[torch.arange(len(labels)), :, labels]  # (b, steps)
    # The mask is True first: where there is a single step, the first frame's mask is the clip's.
    return zero_masked(of_label, mask[:, : of_label.shape[1]]).sum(1)


def mean_entropy(
    attention: Float[Tensor, "b t k k"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Return the entropy (nats) over the cells of a frame, averaged over a clip's valid frames.

    Weights are divided by their sum in the frame, so that all forms of attention compare: it is 0
    when one cell is looked at, 2 log K when all are alike.
    """
    shares = _shares(attention)
    entropies = -torch.special.xlogy(shares, shares).sum((2, 3))
    return zero_masked(entropies, mask).sum(1) / mask.sum(1).clamp(min=1)


def mean_total_variation(
    attention: Float[Tensor, "b t k k"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Return Σ of absolute differences between neighbouring cells, averaged over valid frames.

    As for `mean_entropy`, weights are divided by their sum in the frame: at most 4, at one cell
    away from the border.
    """
    return total_variation_penalty(_shares(attention), mask) / mask.sum(1).clamp(min=1)


def _ascend(
    head: Head,
    batch: Batch,
    labels: Int[Tensor, " b"],
    start: Float[Tensor, "b t k k"],
    num_steps: int,
    learning_rate: float,
) -> Float[Tensor, "b t k k"]:
    """Return each clip's best values on the way; `start` is among them."""
    values = start.clone().requires_grad_()
    best, highest = start, torch.full_like(start[:, 0, 0, 0], -torch.inf)
    optimiser = torch.optim.Adam([values], lr=learning_rate)
    with torch.enable_grad():
        for _ in range(num_steps):
            log_prob = _attended(head, batch, labels, values).log_prob
            is_better = log_prob.detach() > highest
            best = values.detach().where(is_better[:, None, None, None], best)
            highest = log_prob.detach().where(is_better, highest)
            optimiser.zero_grad()
            # Of the values alone: the head's parameters get no gradient.
            torch.autograd.backward(-log_prob.sum(), inputs=[values])
            optimiser.step()
    return best


def _attended(
    head: Head, batch: Batch, labels: Int[Tensor, " b"], values: Float[Tensor, "b t k k"] | None
) -> Attended:
    """Return what the head says under free values, or under its own attention without them."""
    given = None if values is None else weights_of(values, batch.mask, head.attention_form)
    output = head(batch, attention=given)
    attention = output.maps["spatial"] if given is None else given
    return Attended(attention, output.logits, label_log_prob(output, labels, batch.mask))


def _shares(attention: Float[Tensor, "b t k k"]) -> Float[Tensor, "b t k k"]:
    sums = attention.sum((2, 3), keepdim=True)
    return attention / sums.clamp(min=torch.finfo(attention.dtype).tiny)
