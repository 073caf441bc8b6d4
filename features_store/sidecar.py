"""``<unit>.json`` beside a shard: its size and SHA-256, and which older copies it replaces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from features_store.errors import DamageError
from features_store.safety import read_json


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar says.

    Attributes:
        supersedes: unit -> ids that must not be read from there any more.
    """

    num_bytes: int
    sha256: str
    supersedes: dict[str, list[str]]

    def to_json(self) -> dict[str, object]:
        """Return the document that is written."""
        return {"bytes": self.num_bytes, "sha256": self.sha256, "supersedes": self.supersedes}


def read_sidecar(shard: Path) -> Sidecar:
    """Return the sidecar of a shard; raise `DamageError` when it is missing or something else."""
    path = shard.with_suffix(".json")
    try:
        document = read_json(path)
    except (OSError, ValueError) as err:
        raise DamageError(f"the sidecar of {shard.name} cannot be read: {err}") from err
    try:
        supersedes = {
            str(unit): list(map(str, ids)) for unit, ids in document["supersedes"].items()
        }
        return Sidecar(int(document["bytes"]), str(document["sha256"]), supersedes)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DamageError(f"{path} is not a sidecar with bytes, sha256 and supersedes") from None
