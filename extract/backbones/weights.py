"""Weights from files: read without running anything in them, checked, and hashed by content."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from extract.backbones.pickled import NotTakenError, refuse_endless
from features_store.errors import ContractError
from features_store.paths import WEIGHTS

NUM_SNIFFED = 16
_PICKLE, _ZIP = b"\x80", b"PK"  # with which what torch.save writes begins, before and since 1.6
_MORE_THAN_TENSORS = "Python objects beside tensors, which are not loaded since they may run code"
_EXPECTED = "a file of safetensors is expected, or what torch.save made of network.state_dict()"

MAX_LEGACY_BYTES = 2**30


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file or a state dict of `torch.save` (tensors only, no code).

    Raises:
        UsageError: there is no file.
        ContractError: it is unreadable or holds anything but tensors.
    """
    WEIGHTS.require(path)
    try:
        # Mapped, so that tensors take memory only once their shapes were found to be right.
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            is_mapped = _is_archive(path)
            refuse_endless(path, is_archive=is_mapped)
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
    except Exception as err:  # what is no pickle of tensors raises errors of many kinds
        raise ContractError(f"weights {path} {_what_is_wrong(path, err)}; {_EXPECTED}") from err
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(map(_is_plain, state, state.values())):
        raise ContractError(
            f"weights {path} hold something else than a state dict of tensors, names to dense real "
            f"numbers that are in the file; {_EXPECTED}"
        )
    return dict(state)


def _is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, as `torch.save` writes them; raise `ValueError` if not so.

    Its members are not compressed, so that it takes no more memory than it has bytes.
    """
    if not zipfile.is_zipfile(path):
        if (num_bytes := path.stat().st_size) > MAX_LEGACY_BYTES:
            raise NotTakenError(f"are of the format of before torch 1.6 with {num_bytes} bytes")
        return False
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED:
                raise NotTakenError(f"are compressed in {info.filename!r}, as torch.save does not")
    return True


def _is_plain(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and type(value) in (Tensor, nn.Parameter)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_complex())
    )


def _what_is_wrong(path: Path, error: Exception) -> str:
    """Say why a file cannot be read; not in torch's words, which advise to run what is in it."""
    if isinstance(error, NotTakenError):
        return str(error)
    with path.open("rb") as file:
        head = file.read(NUM_SNIFFED)
    if path.suffix == ".safetensors":
        return "are no safetensors, though the file is called so: it is another file, or cut off"
    if not head:
        return "are an empty file"
    if zipfile.is_zipfile(path) or head[:1] == _PICKLE:
        return f"hold {_MORE_THAN_TENSORS}, or the file is damaged"
    if head[:2] == _ZIP:
        return "are cut off: the file is not whole"
    return f"are neither safetensors nor of torch.save: the file begins with {head!r}"


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
