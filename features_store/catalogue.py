"""`catalogue.json`: the shards that a store consists of, in the order in which they came.

Without it, half a copied store looks like a small one. A shard is listed before it gets its final
name, so what is not listed is not the store's; the list only grows, so that every revision of a
store can be named and read again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from features_store.errors import DamageError, StoreError, UsageError
from features_store.format.inputs import MAX_JSON_BYTES
from features_store.format.outputs import write_atomically
from features_store.format.records import check_id
from features_store.format.safety import read_json
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
    def plain(self) -> list[Any]:
        """The entries as they stand in the file."""
        return [to_plain(entry) for entry in self.entries]

    @cached_property
    def revisions(self) -> list[str]:
        """The digest after each entry, in hex; before the first one it is that of the spec."""
        return _chain(self.spec_digest, self.plain)

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
        return self.first(found[0])

    def first(self, number: int) -> Catalogue:
        """Return the catalogue as it was after so many entries."""
        if number == len(self.entries):
            return self
        shorter = Catalogue(self.spec_digest, self.entries[:number])
        vars(shorter)["revisions"] = self.revisions[: number + 1]
        return shorter

    def with_entry(self, entry: ShardEntry) -> Catalogue:
        """Return it with one more entry."""
        return self._with_entries((entry,), [to_plain(entry)])

    def _with_entries(self, entries: Sequence[ShardEntry], plain: list[Any]) -> Catalogue:
        longer = Catalogue(self.spec_digest, (*self.entries, *entries))
        # Else adding shards would take the square of their number.
        vars(longer)["plain"] = [*self.plain, *plain]
        vars(longer)["revisions"] = [*self.revisions[:-1], *_chain(self.revision, plain)]
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
    head = json.dumps({"spec_digest": catalogue.spec_digest, "revision": catalogue.revision})
    # An entry a line; indented, Python would take a second for a few thousand.
    entries = ",\n".join(map(json.dumps, catalogue.plain))
    content = f'{head[:-1]}, "entries": [\n{entries}\n]}}\n'.encode()
    if len(content) > MAX_JSON_BYTES:  # which nobody would read again
        raise StoreError(
            f"{store / FILE_NAME} would have {len(content)} bytes, at most {MAX_JSON_BYTES} are "
            "read; 'cubereel store repack' makes a store without what was replaced"
        )
    write_atomically(store / FILE_NAME, content)


def read_catalogue(store: Path, *, spec_digest: str, known: Catalogue | None = None) -> Catalogue:
    """Read and check `catalogue.json`.

    Args:
        known: as it was before; what it begins with now is not digested again.

    Raises:
        DamageError: there is none, it cannot be understood, or it is another store's.
    """
    path = store / FILE_NAME
    try:
        document = read_json(path)
        revision = document.pop("revision", None) if isinstance(document, dict) else None
        catalogue = _parse(document, known)
    except FileNotFoundError:
        raise DamageError(
            f"{store} has no {FILE_NAME}, so nobody knows whether all of it is here; copy the "
            "store again, or 'cubereel store repair' makes one of the shards that are here"
        ) from None
    except ValueError as err:  # of JSON too
        raise DamageError(
            f"{path} cannot be read: {err}; copy it again, or run 'cubereel store repair'"
        ) from err
    if catalogue.spec_digest != spec_digest or catalogue.revision != revision:
        raise DamageError(
            f"{path} was edited, or is another store's; copy it again, or run 'cubereel store "
            "repair'"
        )
    return catalogue


def _parse(document: Any, known: Catalogue | None) -> Catalogue:
    """Return the catalogue of a document; what it has in common with `known` is taken from there.

    Raises:
        PlainError: it is none.
    """
    plain = document.get("entries") if isinstance(document, dict) else None
    if known is None or not isinstance(plain, list) or plain[: len(known.plain)] != known.plain:
        known = Catalogue(str(document.get("spec_digest")) if isinstance(document, dict) else "")
    if isinstance(document, dict):
        if not isinstance(plain, list):
            raise PlainError("it lacks the list 'entries'")
        document = {**document, "entries": plain[len(known.plain) :]}
    more = from_plain(Catalogue, document)
    _check_names(more, len(known.entries))
    if more.spec_digest != known.spec_digest:
        return more
    return known._with_entries(more.entries, document["entries"])


def _check_names(catalogue: Catalogue, num_before: int) -> None:
    if (number := num_before + len(catalogue.entries)) > MAX_ENTRIES:
        raise PlainError(f"it has {number} entries, more than {MAX_ENTRIES}")
    for entry in catalogue.entries:
        check_entry(entry)


def check_entry(entry: ShardEntry) -> None:
    """Raise `PlainError` for names that are none of units, or ids that are none of videos."""
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
