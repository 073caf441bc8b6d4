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
from pydantic import Field, PositiveInt, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from features_store.errors import ContractError
from features_store.format.inputs import MAX_JSON_BYTES, open_regular, parse_json, read_file
from features_store.format.outputs import write_atomically
from features_store.paths import CHECKPOINT
from train.data.batch import InputShape
from train.fitting.config import TrainConfig, validation_problems
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
MAX_WEIGHTS_BYTES = 2**33
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def save_checkpoint(
    path: Path, head: Head, checkpoint: Checkpoint, *, below: Path | None = None
) -> None:
    """Write ``<path>.safetensors`` and, when that is whole, ``<path>.json``.

    Args:
        below: the folder below which no link is followed; None is the checkpoint's own.
    """
    if below is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous().cpu() for name, value in head.state_dict().items()}
    write_atomically(path.with_suffix(".safetensors"), save(state), below=below)
    document = asdict(checkpoint) | {"config": checkpoint.config.model_dump()}
    said = json.dumps(document, indent=1).encode()
    write_atomically(path.with_suffix(".json"), said, below=below)


def load_checkpoint(
    path: Path, *, build_tail: Callable[[Checkpoint], nn.Module] | None = None
) -> tuple[Head, Checkpoint]:
    """Return the head in evaluation mode and what is said of it.

    Args:
        build_tail: called for a head that takes a tail; its weights do not matter, those of the
            checkpoint replace them.

    Raises:
        UsageError: there is no checkpoint, or no such head here; one of somebody's own is in no
            module that is found.
        ContractError: a file is damaged, or the weights are not those of the head it names.
    """
    description = CHECKPOINT.require(path)
    weights = description.with_suffix(".safetensors")
    try:
        content = read_file(description, most_bytes=MAX_JSON_BYTES)
        parse_json(content)  # within the limits of all JSON
        checkpoint = _CHECKPOINT.validate_json(content)
        shapes = _shapes(weights)
    except (OSError, ValueError, SafetensorError) as err:
        why = validation_problems(err) if isinstance(err, ValidationError) else str(err)
        raise ContractError(
            f"{path} is not a checkpoint of 'cubereel train' ({description.name} and "
            f"{weights.name} are expected): {why}"
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
    own = {name: (tuple(v.shape), v.dtype) for name, v in head.state_dict().items()}
    if differ := sorted(n for n in own | shapes if own.get(n) != shapes.get(n)):
        name = differ[0]
        raise ContractError(
            f"{weights} does not hold the weights of head {checkpoint.head!r}: {name!r} is "
            f"{_described(shapes.get(name))}, expected {_described(own.get(name))}"
        )
    head.load_state_dict(load_file(weights))
    return head.eval(), checkpoint


def _shapes(weights: Path) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return shape and dtype of each tensor of a safetensors file; no more is read of it."""
    open_regular(weights, most_bytes=MAX_WEIGHTS_BYTES).close()
    with safe_open(weights, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {
            name: (tuple(each.get_shape()), _DTYPES.get(each.get_dtype(), torch.complex64))
            for name, each in slices.items()
        }


def _described(found: tuple[tuple[int, ...], torch.dtype] | None) -> str:
    return "not there" if found is None else f"{found[0]} of {found[1]}"


def library_versions() -> dict[str, str]:
    """Return what a result may depend on besides its configuration."""
    import sklearn

    return {
        "cubereel": version("cubereel"),
        "torch": str(torch.__version__),
        "scikit-learn": sklearn.__version__,
    }
