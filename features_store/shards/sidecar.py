"""``<unit>.json`` beside a shard: its size and checksum, and which older copies it replaces.

The sidecar of a shard that repair set aside stays as a tombstone, so that the older copies of its
videos do not come back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from features_store.errors import DamageError
from features_store.format.disk import write_atomically
from features_store.format.safety import read_json
from features_store.plain import from_plain, to_plain

PARTIAL = ".h5.partial"  # may hold committed videos
SEALING = ".h5.sealing"  # holds nothing that is not elsewhere too


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar says; the names are those of the file.

    Attributes:
        bytes, xxh3_128: size and checksum of the whole shard; 0 and empty in a tombstone.
        supersedes: unit -> ids that must not be read from there any more.
    """

    bytes: int
    xxh3_128: str
    supersedes: dict[str, list[str]]


def write_sidecar(shard: Path, sidecar: Sidecar) -> None:
    """Write ``<unit>.json`` of a shard, whole or not at all."""
    content = json.dumps(to_plain(sidecar), indent=1).encode()
    write_atomically(shard.with_suffix(".json"), content)


def write_tombstone(shard: Path, supersedes: dict[str, list[str]]) -> None:
    """Write the sidecar of a shard that is gone for good."""
    write_sidecar(shard, Sidecar(0, "", supersedes))


def lone_sidecars(folder: Path) -> list[Path]:
    """Return the sidecars in ``shards/`` without a shard, finished or not, beside them."""
    return [
        path
        for path in sorted(folder.glob("*.json"))
        if not any(path.with_suffix(suffix).exists() for suffix in (".h5", PARTIAL, SEALING))
    ]


def read_superseded(sidecars: Iterable[Path]) -> dict[str, set[str]]:
    """Return shard name -> ids that one of the sidecars says are replaced there."""
    superseded: dict[str, set[str]] = {}
    for path in sidecars:
        for unit, ids in read_sidecar(path.with_suffix(".h5")).supersedes.items():
            superseded.setdefault(f"{unit}.h5", set()).update(ids)
    return superseded


def read_sidecar(shard: Path) -> Sidecar:
    """Return the sidecar of a shard; raise `DamageError` when it is missing or something else."""
    path = shard.with_suffix(".json")
    try:
        return from_plain(Sidecar, read_json(path))
    except (FileNotFoundError, ValueError) as err:
        raise DamageError(f"the sidecar {path} cannot be read: {err}") from err
