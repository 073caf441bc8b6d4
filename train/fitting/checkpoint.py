"""A fitted head on disk: weights as safetensors, everything else as JSON beside them."""

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveInt, TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from features_store.errors import ContractError
from features_store.format.disk import write_atomically
from train.data.batch import InputShape
from train.fitting.config import TrainConfig
from train.heads import Head, build_head, head_class
from train.heads.own import own_name
from train.heads.registry import refuse_wrong_options

logger = logging.getLogger("cubereel")


@dataclass(frozen=True)
class Checkpoint:
    """What is needed to use a head again, and what it was made from.

    Attributes:
        spec: of the store it was trained on, as in `store.json`; new cubes must agree with it.
        revision: of that store.
        test_ids: videos that the head was not fitted on.
        thresholds: of the probability of each class, where a video may have several; empty where
            there is one, and in checkpoints of before: then 0.5.
    """

    head: str
    options: dict[str, str]
    layers: Annotated[dict[str, tuple[PositiveInt, PositiveInt]], Field(min_length=1)]
    diff_grid: PositiveInt | None
    classes: tuple[str, ...]
    config: TrainConfig
    spec: dict[str, Any]
    spec_digest: str
    revision: str
    fold: int
    seed: int
    split_hash: str
    test_ids: tuple[str, ...]
    versions: dict[str, str]
    thresholds: tuple[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)], ...] = ()

    def __post_init__(self) -> None:
        if self.thresholds and len(self.thresholds) != len(self.classes):
            raise ValueError(
                f"there must be a threshold for each of {len(self.classes)} classes, or none, "
                f"got {len(self.thresholds)}"
            )


_CHECKPOINT = TypeAdapter(Checkpoint)


def save_checkpoint(path: Path, head: Head, checkpoint: Checkpoint) -> None:
    """Write ``<path>.safetensors`` and, when that is whole, ``<path>.json``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous().cpu() for name, value in head.state_dict().items()}
    write_atomically(path.with_suffix(".safetensors"), save(state))
    document = asdict(checkpoint) | {"config": checkpoint.config.model_dump()}
    write_atomically(path.with_suffix(".json"), json.dumps(document, indent=1).encode())


def load_checkpoint(
    path: Path, *, build_tail: Callable[[Checkpoint], nn.Module] | None = None
) -> tuple[Head, Checkpoint]:
    """Return the head in evaluation mode and what is said of it.

    Args:
        build_tail: called for a head that takes a tail; its weights do not matter, those of the
            checkpoint replace them.

    Raises:
        ContractError: a file is missing, or the weights are not those of the head it names.
        UsageError: there is no such head here; one of somebody's own is in no module that is found.
    """
    description, weights = path.with_suffix(".json"), path.with_suffix(".safetensors")
    try:
        checkpoint = _CHECKPOINT.validate_json(description.read_bytes())
        state = load_file(weights)
    except (OSError, ValueError, SafetensorError) as err:
        raise ContractError(
            f"{path} is not a checkpoint of 'cubereel train' ({description.name} and "
            f"{weights.name} are expected): {err}"
        ) from err
    takes_tail = head_class(checkpoint.head).takes_tail
    if own_name(checkpoint.head):
        file = sys.modules[head_class(checkpoint.head).__module__].__file__
        logger.info("head %s comes from %s", checkpoint.head, file)
    refuse_wrong_options(checkpoint.head, checkpoint.options)
    head = build_head(
        checkpoint.head,
        shape=InputShape(checkpoint.layers, checkpoint.diff_grid),
        num_classes=len(checkpoint.classes),
        tail=build_tail(checkpoint) if build_tail and takes_tail else None,
        **checkpoint.options,
    )
    try:
        head.load_state_dict(state)
    except RuntimeError as err:
        raise ContractError(
            f"{weights} does not hold the weights of head {checkpoint.head!r}: "
            f"{str(err).splitlines()[-1].strip()}"
        ) from err
    return head.eval(), checkpoint


def library_versions() -> dict[str, str]:
    """Return what a result may depend on besides its configuration."""
    import sklearn

    return {
        "cubereel": version("cubereel"),
        "torch": str(torch.__version__),
        "scikit-learn": sklearn.__version__,
    }
