"""Where a store's videos are from, and on what terms: one entry for each source of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from features_store.errors import StoreError, UsageError, nearest_name
from features_store.spec import canonical_json

ID_DIGITS = 8
TERMS = ("licence", "origin", "citation")


@dataclass(frozen=True)
class SourceTerms:
    """What is said of the videos of one source; None where nobody said it.

    Attributes:
        id: that the records of its videos have; never changed.
        root: the folder that paths in the manifest are relative to, as it was at extraction.
        licence, origin, citation: in the words of whoever made or describes the store.
    """

    id: str
    root: str
    licence: str | None = None
    origin: str | None = None
    citation: str | None = None


def new_source(
    root: str,
    *,
    licence: str | None = None,
    origin: str | None = None,
    citation: str | None = None,
) -> SourceTerms:
    """Return a source whose id follows from what is said of it; an empty text says nothing."""
    terms = [licence or None, origin or None, citation or None]
    digest = hashlib.sha256(canonical_json([root, *terms])).hexdigest()
    return SourceTerms(digest[:ID_DIGITS], root, *terms)


def join_sources(
    ours: Sequence[SourceTerms], theirs: Sequence[SourceTerms]
) -> tuple[SourceTerms, ...]:
    """Return the sources of both; what one of them does not say, the other may.

    Raises:
        StoreError: both say something of one source, and not the same.
    """
    joined = {source.id: source for source in ours}
    for source in theirs:
        known = joined.setdefault(source.id, source)
        if known.root != source.root:
            raise StoreError(
                f"source {source.id} has its videos below {known.root!r} in one store and below "
                f"{source.root!r} in another; they cannot be joined"
            )
        joined[source.id] = fill_in(known, source)
    return tuple(joined.values())


def fill_in(known: SourceTerms, said: SourceTerms) -> SourceTerms:
    """Return a source with what is said of it now; `StoreError` where it was said otherwise."""
    for name in TERMS:
        old, new = getattr(known, name), getattr(said, name)
        if None not in (old, new) and old != new:
            raise StoreError(
                f"the {name} of the videos below {known.root!r} is {old!r} in the store, not "
                f"{new!r}; leave `{name}` out, or change it with 'cubereel store describe'"
            )
    filled: dict[str, Any] = {n: getattr(known, n) or getattr(said, n) for n in TERMS}
    return replace(known, **filled)


def source_for(stored: Sequence[SourceTerms], wanted: SourceTerms) -> SourceTerms:
    """Return the source of videos that are added to a store: that of the same root, or a new one.

    Raises:
        StoreError: the store says something else of the videos below that root.
    """
    for source in stored:
        if source.root == wanted.root:
            return fill_in(source, wanted)
    return wanted


def describe(
    sources: Sequence[SourceTerms], source_id: str | None, terms: dict[str, str | None]
) -> tuple[SourceTerms, ...]:
    """Return the sources with other terms, of one of them or of all; None leaves a term as it is.

    Raises:
        UsageError: there is no source of that id.
    """
    known = [source.id for source in sources]
    if source_id is not None and source_id not in known:
        raise UsageError(f"no source {source_id!r}; {nearest_name(source_id, known)}")
    said: dict[str, Any] = {n: value or None for n, value in terms.items() if value is not None}
    return tuple(
        replace(source, **said) if source_id in (None, source.id) else source for source in sources
    )
