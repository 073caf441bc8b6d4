"""Weights from files: read without running anything in them, checked, and hashed by content."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from features_store.errors import ContractError


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file or a state dict of `torch.save` (tensors only, no code).

    Raises:
        ContractError: the file is missing, unreadable or holds anything but tensors.
    """
    if not path.is_file():
        raise ContractError(f"weights {path} do not exist; give `weights` an existing file")
    try:
        if path.suffix == ".safetensors":
            loaded: dict[str, Tensor] = load_file(path)
            return loaded
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as err:
        first_line = str(err).strip().splitlines()[0]
        raise ContractError(
            f"weights {path} cannot be read as safetensors or as a plain state dict: {first_line}"
        ) from err
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ContractError(f"weights {path} hold something else than a state dict of tensors")
    return dict(state)


def load_into(
    network: nn.Module, state: Mapping[str, Tensor], *, origin: str, ignore: tuple[str, ...] = ()
) -> None:
    """Load a state dict; every parameter must be there with its shape.

    Args:
        ignore: prefixes of tensors in the file that the network is built without.

    Raises:
        ContractError: naming what is missing, left over or of another shape.
    """
    state = {name: value for name, value in state.items() if not name.startswith(ignore or ("\0",))}
    own = network.state_dict()
    # Batch counters are bookkeeping that older files lack; no number depends on them.
    missing = [n for n in own if n not in state and not n.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{n} is {tuple(state[n].shape)}, the network has {tuple(own[n].shape)}"
        for n in own
        if n in state and own[n].shape != state[n].shape
    ]
    if missing or unexpected or shapes:
        raise ContractError(
            f"weights {origin} do not fit {type(network).__name__}: "
            + "; ".join(
                [
                    f"{len(names)} {what} (first: {names[0]})"
                    for what, names in (
                        ("missing", missing),
                        ("unexpected", unexpected),
                        ("of another shape", shapes),
                    )
                    if names
                ]
            )
            + "; give the weights of this very network"
        )
    network.load_state_dict(dict(state), strict=False)


def state_sha256(network: nn.Module) -> str:
    """Return the SHA-256 of a network's tensors by sorted name, so the file format is no part."""
    hasher = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        hasher.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return hasher.hexdigest()
