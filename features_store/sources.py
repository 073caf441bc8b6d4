"""Where a store's videos are from, and on what terms: one entry for each source of them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from features_store.errors import StoreError, UsageError, nearest_name

ID_DIGITS = 8
SOURCE_ID = re.compile(f"[0-9a-f]{{{ID_DIGITS}}}")
MAX_TEXT = 2**16
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

    def __post_init__(self) -> None:
        for name in ("root", *TERMS):
            if len(getattr(self, name) or "") > MAX_TEXT:
                raise UsageError(f"the {name} of a source has more than {MAX_TEXT} characters")


def new_source(
    root: str,
    *,
    licence: str | None = None,
    origin: str | None = None,
    citation: str | None = None,
) -> SourceTerms:
    """Return a source with an id that no other has; an empty text says nothing."""
    source_id = secrets.token_hex(ID_DIGITS // 2)
    return SourceTerms(source_id, root, licence or None, origin or None, citation or None)


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
        StoreError: the store says something else of the videos below that root, or several things
            and it is not said which one holds.
    """
    below = [source for source in stored if source.root == wanted.root]
    if not below:
        return wanted
    if len(below) == 1:
        return fill_in(below[0], wanted)
    agreeing = [source for source in below if _terms(source) == _terms(wanted)]
    if len(agreeing) == 1:
        return agreeing[0]
    raise StoreError(
        f"the store says several things of videos below {wanted.root!r}: "
        + "; ".join(f"{each.id}: {', '.join(str(t) for t in _terms(each))}" for each in below)
        + "; give `licence`, `origin` and `citation` of one of them"
    )


def same_source(stored: Sequence[SourceTerms], wanted: SourceTerms) -> SourceTerms:
    """Return the stored source of which the same is said as of another, or that one.

    For features without a root, of which nothing else tells whether they are from one source.
    """
    alike = (each for each in stored if (each.root, _terms(each)) == (wanted.root, _terms(wanted)))
    return next(alike, wanted)


def _terms(source: SourceTerms) -> tuple[str | None, ...]:
    return source.licence, source.origin, source.citation


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
