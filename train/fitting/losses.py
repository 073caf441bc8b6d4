"""Losses over padded sequences of logits, and the probabilities that a clip gets from them.

Cross-entropy is the *mean* over the valid steps of a clip, so that long and short clips weigh the
same; Sharma et al. (2015) sum over steps. Whoever adds a per-clip regulariser of theirs to it
divides that by the number of valid steps, as `train.heads.soft_attention` does.
"""

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it


def sequence_cross_entropy(
    logits: Float[Tensor, "b steps classes"],
    labels: Int[Tensor, " b"],
    mask: Bool[Tensor, "b t"],
    *,
    class_weights: Float[Tensor, " classes"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Return the mean over valid steps per clip, then the mean over clips, each by its class.

    The mean is over the number of clips and not over the sum of their weights: with that a clip's
    gradient would depend on what else is in its batch, and alone in a batch no class would weigh.
    Logits of a single step speak for the whole clip. At least float32 is used.

    Raises:
        ValueError: the logits have neither one step nor as many as the mask.
    """
    num_steps, labels_per_step = logits.shape[1], labels.unsqueeze(1).expand(logits.shape[:2])
    per_step = F.cross_entropy(
        rearrange(_at_least_float32(logits), "b t c -> b c t"),
        labels_per_step,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    per_clip = _mean_of_valid(per_step, _valid_steps(mask, num_steps=num_steps))
    if class_weights is not None:
        per_clip = per_clip * class_weights.to(per_clip.dtype)[labels]
    return per_clip.mean()


def sequence_binary_cross_entropy(
    logits: Float[Tensor, "b steps classes"],
    labels: Bool[Tensor, "b classes"],
    mask: Bool[Tensor, "b t"],
    *,
    answer_weights: Float[Tensor, "2 classes"] | None = None,
) -> Float[Tensor, ""]:
    """Return the sum over classes of binary cross-entropies, its mean over valid steps, then clips.

    As the code of Sharma et al. for Hollywood2, which has the sum over steps. Logits of a single
    step speak for the whole clip. At least float32 is used.

    Args:
        answer_weights: of "the clip does not show the class" and "it does", for every class.

    Raises:
        ValueError: the logits have neither one step nor as many as the mask.
    """
    logits = _at_least_float32(logits)
    targets = labels.unsqueeze(1).expand(logits.shape)
    per_class = F.binary_cross_entropy_with_logits(
        logits, targets.to(logits.dtype), reduction="none"
    )
    if answer_weights is not None:
        lacks, has = answer_weights.to(logits.dtype)
        per_class = per_class * torch.where(targets, has, lacks)
    per_step = reduce(per_class, "b t c -> b t", "sum")
    return _mean_of_valid(per_step, _valid_steps(mask, num_steps=logits.shape[1])).mean()


def clip_probabilities(
    logits: Float[Tensor, "b steps classes"],
    mask: Bool[Tensor, "b t"],
    *,
    last_n: int | None = None,
    multi_label: bool = False,
) -> Float[Tensor, "b classes"]:
    """Return the softmax of each step, averaged over the valid steps or the last `last_n` of them.

    Sharma et al. (2015) average over all steps; their code for HMDB51 takes the last 16.

    Args:
        multi_label: take the sigmoid of each logit, as classes do not exclude each other.

    Raises:
        ValueError: `last_n` is below 1, or the steps do not fit the mask.
    """
    if last_n is not None and last_n < 1:
        raise ValueError(f"last_n must be at least 1, or None for all steps, got {last_n}")
    valid = _valid_steps(mask, num_steps=logits.shape[1])
    if last_n is not None:
        # Counted from the end:  mask 1 1 1 0  ->  3 2 1 0, so the last two valid ones are <= 2.
        valid = valid & (valid.flip(1).cumsum(1).flip(1) <= last_n)
    logits = _at_least_float32(logits)
    probs = logits.sigmoid() if multi_label else logits.softmax(dim=-1)
    summed = probs.where(rearrange(valid, "b t -> b t 1"), 0.0).sum(1)
    return summed / valid.sum(1, keepdim=True).clamp(min=1)


def _mean_of_valid(
    per_step: Float[Tensor, "b steps"], valid: Bool[Tensor, "b steps"]
) -> Float[Tensor, " b"]:
    return per_step.where(valid, 0.0).sum(1) / valid.sum(1).clamp(min=1)


def _valid_steps(mask: Bool[Tensor, "b t"], *, num_steps: int) -> Bool[Tensor, "b steps"]:
    if num_steps == mask.shape[1]:
        return mask
    if num_steps == 1:
        return torch.ones_like(mask[:, :1])
    raise ValueError(
        f"logits must have 1 step or one per frame of the mask ({mask.shape[1]}), got {num_steps}"
    )


def _at_least_float32(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
