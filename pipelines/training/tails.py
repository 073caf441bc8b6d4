"""Heads that train the last layers of the network a store was made with, and those layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from extract.backbones.tail import load_tail
from features_store.errors import SpecMismatchError, UsageError
from features_store.spec import Spec
from train.fitting.checkpoint import Checkpoint, load_checkpoint
from train.heads import Head, HeadChoice, head_class, list_heads


def refuse_idle_weights(choices: Sequence[HeadChoice], weights: str | Path | None) -> None:
    """Raise `UsageError` when weights are given and no head takes a tail."""
    if weights is None or any(head_class(choice.name).takes_tail for choice in choices):
        return
    takers = [name for name in list_heads() if head_class(name).takes_tail]
    raise UsageError(
        f"none of these heads takes the backbone's weights ({weights}); "
        f"`weights` is for: {', '.join(takers)}"
    )


def give_tail(
    choice: HeadChoice, spec: Spec, *, layer: str, weights: str | Path | None
) -> HeadChoice:
    """Return the choice, with what follows `layer` if its head takes a tail.

    Args:
        weights: of the store's backbone; None means its download.

    Raises:
        UsageError: nothing follows the layer, or there are no weights.
        ContractError: the weights are not those that the store was made with.
    """
    if not head_class(choice.name).takes_tail:
        return choice
    return replace(choice, tail=_load(spec, layer, weights))


def open_checkpoint(path: Path) -> tuple[Head, Checkpoint]:
    """Return what `load_checkpoint` does, of any head; no file but the checkpoint's is needed."""
    return load_checkpoint(path, build_tail=_untrained)


def _load(spec: Spec, layer: str, weights: str | Path | None) -> nn.Module:
    if spec.backbone.startswith("imported:"):
        raise UsageError(
            f"the store's features were imported ({spec.backbone}), so there is no network whose "
            "last layers could be trained; extract the videos with a backbone"
        )
    tail = load_tail(spec.backbone, layer, weights=None if weights is None else Path(weights))
    if tail.weights_sha256 != spec.weights_sha256:
        raise SpecMismatchError(
            f"weights {weights or 'of the download'} are not those that the store was made with\n"
            f"  weights_sha256: {tail.weights_sha256!r}, not {spec.weights_sha256!r}\n"
            f"give `weights` the file that {spec.backbone} had in 'cubereel extract'"
        )
    return tail.module


def _untrained(checkpoint: Checkpoint) -> nn.Module:
    """Return the layers after a checkpoint's top layer, with weights of no meaning."""
    spec = Spec.from_json(checkpoint.spec)
    layer = next(reversed(checkpoint.layers))
    return load_tail(spec.backbone, layer, trained=False).module
