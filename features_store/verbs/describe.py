"""Saying, or saying otherwise, on what terms the videos of a store may be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from features_store.errors import UsageError
from features_store.locking import lock_store
from features_store.metadata import StoreHeader, read_header, write_header
from features_store.sources import TERMS, describe


def describe_store(
    store: str | Path,
    *,
    source: str | None = None,
    licence: str | None = None,
    origin: str | None = None,
    citation: str | None = None,
) -> StoreHeader:
    """Write what is said of a store's videos; no feature and no revision changes.

    Args:
        source: id of the source that it holds for; None is all of them.
        licence, origin, citation: None leaves what is said, "" takes it back.

    Raises:
        UsageError: nothing is said, or there is no such source.
        StoreError: somebody is writing the store.
    """
    path, said = Path(store), dict(zip(TERMS, (licence, origin, citation), strict=True))
    if set(said.values()) == {None}:
        raise UsageError("nothing to say of the videos; give `licence`, `origin` or `citation`")
    read_header(path)  # no lock in what is no store
    with lock_store(path):
        header = read_header(path)
        header = replace(header, sources=describe(header.sources, source, said))
        write_header(path, header)
    return header
