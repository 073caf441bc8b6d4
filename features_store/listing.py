"""What is in ``shards/`` against the catalogue: missing, foreign, older, or just being named."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import xxhash

from features_store.catalogue import (
    IDENTITY_BYTES,
    PARTIAL,
    SEALING,
    Catalogue,
    Identity,
    ShardEntry,
    read_catalogue,
)
from features_store.errors import DamageError
from features_store.format.regular_file import RegularFile, check_own
from features_store.planned import of_plan


def list_shards(store: Path) -> dict[str, int]:
    """Return file name -> bytes of everything in ``shards/`` that is named as a sealed shard."""
    folder = store / "shards"
    check_own(folder)
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {
            entry.name: entry.stat(follow_symlinks=False).st_size
            for entry in entries
            if entry.name.endswith(".h5")
        }


def open_catalogue(store: Path, *, spec_digest: str) -> Catalogue:
    """Return the catalogue of a store whose shards are all there, and no others.

    Raises:
        DamageError: a shard is missing, of another size, or not listed.
        UnsafeStoreError: what has the name of a shard is a link, a pipe or a device.
    """
    # In this order: a shard that is added meanwhile is listed before it has its name, or is one of
    # the plan.
    there = list_shards(store)
    catalogue = settled(store, read_catalogue(store, spec_digest=spec_digest))
    problems = listing_problems(store, catalogue, there)
    if problems:
        for name in there:
            check_own(store / "shards" / name)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DamageError(
            f"{store}: {problems[0]}{more}; copy the store again, or run 'cubereel store repair'"
        )
    return catalogue


def settled(store: Path, catalogue: Catalogue) -> Catalogue:
    """Return a catalogue without the last entries whose shards are just being given their names."""
    number = len(catalogue.entries)
    while number and is_pending(store, catalogue.entries[number - 1]):
        number -= 1
    return catalogue.first(number)


def is_pending(store: Path, entry: ShardEntry) -> bool:
    """Whether a shard is listed and still has the name under which it was written."""
    shard = store / "shards" / entry.file_name
    if entry.identity is None or shard.exists():
        return False
    has_other_name = any(shard.with_name(entry.name + end).exists() for end in (SEALING, PARTIAL))
    return has_other_name and not shard.exists()  # it may have got its name in between


def listing_problems(store: Path, catalogue: Catalogue, there: Mapping[str, int]) -> list[str]:
    """Return what is missing, of another size, or not listed; `there` was found before."""
    problems = []
    for name, entry in catalogue.shards.items():
        if there.get(name) != entry.bytes and (problem := size_problem(store, entry)):
            problems.append(problem)
    unlisted = set(there) - {entry.file_name for entry in catalogue.entries}
    problems += [
        f"{name} in shards/ is no shard of this store: the catalogue does not list it"
        for name in sorted(unlisted.difference(of_plan(store, unlisted)))
    ]
    return problems


def sealed_unlisted(store: Path, catalogue: Catalogue) -> list[str]:
    """Return the names of shards that a worker sealed and was not given the time to list."""
    unlisted = set(list_shards(store)) - {entry.file_name for entry in catalogue.entries}
    return [name.removesuffix(".h5") for name in of_plan(store, unlisted)]


def size_problem(store: Path, entry: ShardEntry) -> str | None:
    """Say whether a listed shard is missing or of another size; None when it is neither."""
    name = entry.file_name
    try:
        num_bytes = (store / "shards" / name).lstat().st_size
    except FileNotFoundError:
        return f"shard {name} is missing"
    if num_bytes != entry.bytes:
        return f"shard {name} has {num_bytes} bytes, the catalogue says {entry.bytes}"
    return None


def identify(path: Path, *, offset: int, table_bytes: int) -> Identity:
    """Return the identity of a shard whose table of videos lies at `offset`."""
    num_bytes = min(table_bytes, IDENTITY_BYTES)
    with RegularFile(path) as file:
        return Identity(offset, num_bytes, _digest(file, offset, num_bytes))


def check_identity(path: Path, entry: ShardEntry) -> None:
    """Raise `DamageError` unless a file is the shard of that entry, as far as its head tells."""
    assert entry.identity is not None, "a removed shard is not opened"
    wanted = entry.identity
    try:
        with RegularFile(path) as file:
            num_bytes = file.num_bytes
            found = _digest(file, wanted.offset, min(wanted.bytes, IDENTITY_BYTES))
    except FileNotFoundError:
        raise DamageError(f"{path} is missing; run 'cubereel store repair'") from None
    if num_bytes != entry.bytes or found != wanted.xxh3_128:
        raise DamageError(
            f"{path} is not the shard that the catalogue lists under this name, but an older or "
            "another store's; copy it again, or run 'cubereel store repair'"
        )


def _digest(file: RegularFile, offset: int, num_bytes: int) -> str:
    if not 0 <= offset <= offset + num_bytes <= file.num_bytes:
        return ""
    return xxhash.xxh3_128_hexdigest(file.read(offset, num_bytes))


def check_all_identities(store: Path, catalogue: Catalogue) -> None:
    """Raise `DamageError` for the first file that is not the shard that is listed."""
    for entry in catalogue.shards.values():
        check_identity(store / "shards" / entry.file_name, entry)
