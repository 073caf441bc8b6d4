"""Adding to a catalogue while other workers add theirs: each entry follows exactly one other.

What follows a revision is a file of its own, which is made once, by a link: so no two entries
follow the same one. `catalogue.json` is written after it; whoever is next brings it up to date.
"""

from __future__ import annotations

import json
from pathlib import Path
from threading import Lock

from features_store.catalogue import (
    Catalogue,
    ShardEntry,
    check_entry,
    read_catalogue,
    write_catalogue,
)
from features_store.errors import DamageError
from features_store.format.outputs import link_new
from features_store.format.safety import read_json
from features_store.locking import UNITS
from features_store.plain import from_plain, to_plain


class Appender:
    """Adds entries to a store's catalogue; for any threads of one worker."""

    def __init__(self, store: Path, *, spec_digest: str) -> None:
        self._store, self._spec_digest = store, spec_digest
        self._known: Catalogue | None = None
        self._lock = Lock()

    def names(self) -> set[str]:
        """Return the names that are listed, now or in the next moment."""
        with self._lock:
            self._known = self._read()
            return {entry.name for entry in with_claimed(self._store, self._known).entries}

    def append(self, entry: ShardEntry) -> None:
        """Add an entry; nothing happens where its name is listed already."""
        with self._lock:
            while not self._is_appended(entry):
                pass

    def _is_appended(self, entry: ShardEntry) -> bool:
        self._known = self._read()
        longer = with_claimed(self._store, self._known)
        if all(each.name != entry.name for each in longer.entries):
            content = json.dumps(to_plain(entry)).encode()
            if not link_new(_claim(self._store, longer.revision), content):
                return False  # another worker was faster
            longer = longer.with_entry(entry)
        now = self._read()
        number = len(now.entries)
        if number > len(longer.entries) or longer.revisions[number] != now.revision:
            return False  # it went another way meanwhile; look again whether this one is in it
        if number < len(longer.entries):
            write_catalogue(self._store, longer)
        self._known = longer
        return True

    def _read(self) -> Catalogue:
        return read_catalogue(self._store, spec_digest=self._spec_digest, known=self._known)


def with_claimed(store: Path, catalogue: Catalogue) -> Catalogue:
    """Return a catalogue with the entries that workers claimed to follow it."""
    while True:
        path = _claim(store, catalogue.revision)
        try:
            entry = from_plain(ShardEntry, read_json(path))
            check_entry(entry)
        except FileNotFoundError:
            return catalogue
        except ValueError as err:
            raise DamageError(f"{path} cannot be read: {err}; remove it") from err
        catalogue = catalogue.with_entry(entry)


def _claim(store: Path, revision: str) -> Path:
    return store / UNITS / f"after-{revision}.json"
