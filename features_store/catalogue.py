"""`catalogue.json`: the shards that a store consists of, in the order in which they came.

Without it, half a copied store looks like a small one. A shard is listed before it gets its final
name, so what is not listed is not the store's; the list only grows, so that every revision of a
store can be named and read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import xxhash

from features_store.errors import DamageError, StoreError, UsageError
from features_store.format.disk import write_atomically
from features_store.format.records import check_id
from features_store.format.safety import MAX_JSON_BYTES, check_own, read_json
from features_store.plain import PlainError, from_plain, to_plain
from features_store.spec import canonical_json

FILE_NAME = "catalogue.json"
PARTIAL = ".h5.partial"  # may hold committed videos
SEALING = ".h5.sealing"  # holds nothing that is not elsewhere too
IDENTITY_BYTES = 2**16  # of the table of videos, which has the checksums of all its videos
MIN_REVISION = 8  # digits that name one
UNIT = re.compile(r"(?P<id>[A-Za-z0-9_][A-Za-z0-9_.-]{0,149})-(?P<generation>[1-9][0-9]{0,8})")
MAX_ENTRIES = 100_000


@dataclass(frozen=True)
class Identity:
    """What tells a shard from any other of its name and size: the head of its table of videos.

    Attributes:
        offset, bytes: where it lies in the file.
        xxh3_128: of these bytes, in hex.
    """

    offset: int
    bytes: int
    xxh3_128: str


@dataclass(frozen=True)
class ShardEntry:
    """A shard of the store; or, without an identity, that the shard of this name was removed.

    Attributes:
        name: of the unit; the file is ``shards/<name>.h5``.
        bytes, xxh3_128: size and checksum of the whole file.
        supersedes: unit -> ids that must not be read from there any more.
    """

    name: str
    bytes: int = 0
    xxh3_128: str = ""
    identity: Identity | None = None
    supersedes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """Below ``shards/``."""
        return f"{self.name}.h5"


@dataclass(frozen=True)
class Catalogue:
    """What a store consists of, at one revision of it."""

    spec_digest: str
    entries: tuple[ShardEntry, ...] = ()

    @cached_property
    def shards(self) -> dict[str, ShardEntry]:
        """File name -> entry of every shard that was not removed, sorted by name."""
        last = {entry.file_name: entry for entry in self.entries}
        return {name: last[name] for name in sorted(last) if last[name].identity is not None}

    @cached_property
    def superseded(self) -> dict[str, set[str]]:
        """File name -> ids that lie in a newer shard now, or did until it was removed."""
        found: dict[str, set[str]] = {}
        for entry in self.entries:
            for unit, ids in entry.supersedes.items():
                found.setdefault(f"{unit}.h5", set()).update(ids)
        return found

    @cached_property
    def revisions(self) -> list[str]:
        """The digest after each entry, in hex; before the first one it is that of the spec."""
        return _chain(self.spec_digest, map(to_plain, self.entries))

    @property
    def revision(self) -> str:
        """The digest of all that it says."""
        return self.revisions[-1]

    def at(self, revision: str) -> Catalogue:
        """Return the catalogue as it was at a revision, named by its first digits.

        Raises:
            UsageError: there is no such revision, or several begin so.
        """
        found = [i for i, digest in enumerate(self.revisions) if digest.startswith(revision)]
        if len(found) != 1 or len(revision) < MIN_REVISION:
            raise UsageError(
                f"`revision` {revision!r} names {len(found)} of the {len(self.revisions)} "
                f"revisions of this store; give {MIN_REVISION} or more of its digits"
            )
        return Catalogue(self.spec_digest, self.entries[: found[0]])

    def with_entry(self, entry: ShardEntry) -> Catalogue:
        """Return it with one more entry."""
        longer = Catalogue(self.spec_digest, (*self.entries, entry))
        # Else adding shards would take the square of their number.
        more = _chain(self.revision, [to_plain(entry)])
        vars(longer)["revisions"] = [*self.revisions[:-1], *more]
        return longer

    def new_name(self, unit_id: str) -> str:
        """Return a name for a unit that no shard has or had: its id and the next generation."""
        used = [UNIT.fullmatch(entry.name) for entry in self.entries]
        generations = [int(u["generation"]) for u in used if u is not None and u["id"] == unit_id]
        return f"{unit_id}-{max(generations, default=0) + 1}"


def _chain(digest: str, entries: Iterable[Any]) -> list[str]:
    """Return a digest and those after each entry, given as it stands in the file."""
    digests = [digest]
    for entry in entries:
        content = bytes.fromhex(digests[-1]) + canonical_json(entry)
        digests.append(hashlib.sha256(content).hexdigest())
    return digests


def write_catalogue(store: Path, catalogue: Catalogue) -> None:
    """Write `catalogue.json`, whole or not at all."""
    document = {**to_plain(catalogue), "revision": catalogue.revision}
    content = json.dumps(document, indent=1).encode()
    if len(content) > MAX_JSON_BYTES:  # which nobody would read again
        raise StoreError(
            f"{store / FILE_NAME} would have {len(content)} bytes, at most {MAX_JSON_BYTES} are "
            "read; 'cubereel store repack' makes a store without what was replaced"
        )
    write_atomically(store / FILE_NAME, content)


def read_catalogue(store: Path, *, spec_digest: str) -> Catalogue:
    """Read and check `catalogue.json`.

    Raises:
        DamageError: there is none, it cannot be understood, or it is another store's.
    """
    path = store / FILE_NAME
    try:
        document = read_json(path)
        revision = document.pop("revision", None) if isinstance(document, dict) else None
        catalogue = from_plain(Catalogue, document)
        _check_names(catalogue)
    except FileNotFoundError:
        raise DamageError(
            f"{store} has no {FILE_NAME}, so nobody knows whether all of it is here; copy the "
            "store again, or 'cubereel store repair' makes one of the shards that are here"
        ) from None
    except ValueError as err:  # of JSON too
        raise DamageError(
            f"{path} cannot be read: {err}; copy it again, or run 'cubereel store repair'"
        ) from err
    if catalogue.spec_digest == spec_digest:
        # Of what stands there: to make it anew of the entries takes as long as reading them.
        vars(catalogue)["revisions"] = _chain(spec_digest, document["entries"])
    if catalogue.spec_digest != spec_digest or catalogue.revision != revision:
        raise DamageError(
            f"{path} was edited, or is another store's; copy it again, or run 'cubereel store "
            "repair'"
        )
    return catalogue


def _check_names(catalogue: Catalogue) -> None:
    if len(catalogue.entries) > MAX_ENTRIES:
        raise PlainError(f"it has {len(catalogue.entries)} entries, more than {MAX_ENTRIES}")
    for entry in catalogue.entries:
        for name in (entry.name, *entry.supersedes):
            if not UNIT.fullmatch(name):
                raise PlainError(f"{name[:200]!r} is no name of a unit")
        for ids in entry.supersedes.values():
            for video_id in ids:
                _check_id(video_id)


def _check_id(video_id: str) -> None:
    try:
        check_id(video_id)
    except UsageError as err:
        raise PlainError(str(err)[:300]) from None


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
    # In this order: a shard that is added meanwhile is listed before it has its name.
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
    entries = list(catalogue.entries)
    while entries and is_pending(store, entries[-1]):
        entries.pop()
    if len(entries) == len(catalogue.entries):
        return catalogue
    return Catalogue(catalogue.spec_digest, tuple(entries))


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
        num_bytes = there.get(name)
        if num_bytes is None:
            try:
                num_bytes = (store / "shards" / name).lstat().st_size
            except FileNotFoundError:
                problems.append(f"shard {name} is missing")
                continue
        if num_bytes != entry.bytes:
            problems.append(f"shard {name} has {num_bytes} bytes, the catalogue says {entry.bytes}")
    listed = {entry.file_name for entry in catalogue.entries}
    problems += [
        f"{name} in shards/ is no shard of this store: the catalogue does not list it"
        for name in sorted(set(there) - listed)
    ]
    return problems


def identify(path: Path, *, offset: int, table_bytes: int) -> Identity:
    """Return the identity of a shard whose table of videos lies at `offset`."""
    num_bytes = min(table_bytes, IDENTITY_BYTES)
    with path.open("rb") as file:
        return Identity(offset, num_bytes, _digest(file.fileno(), offset, num_bytes))


def check_identity(path: Path, entry: ShardEntry) -> None:
    """Raise `DamageError` unless a file is the shard of that entry, as far as its head tells."""
    assert entry.identity is not None, "a removed shard is not opened"
    wanted = entry.identity
    check_own(path)
    try:
        with path.open("rb") as file:
            num_bytes = os.fstat(file.fileno()).st_size
            found = _digest(file.fileno(), wanted.offset, min(wanted.bytes, IDENTITY_BYTES))
    except FileNotFoundError:
        raise DamageError(f"{path} is missing; run 'cubereel store repair'") from None
    if num_bytes != entry.bytes or found != wanted.xxh3_128:
        raise DamageError(
            f"{path} is not the shard that the catalogue lists under this name, but an older or "
            "another store's; copy it again, or run 'cubereel store repair'"
        )


def _digest(descriptor: int, offset: int, num_bytes: int) -> str:
    try:
        return xxhash.xxh3_128_hexdigest(os.pread(descriptor, num_bytes, offset))
    except (OSError, OverflowError, ValueError):
        return ""  # a place that cannot be in a file


def check_all_identities(store: Path, catalogue: Catalogue) -> None:
    """Raise `DamageError` for the first file that is not the shard that is listed."""
    for entry in catalogue.shards.values():
        check_identity(store / "shards" / entry.file_name, entry)
