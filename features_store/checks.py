"""A manifest as a whole: what must be mended before its rows are used, and what is doubtful.

A fault would lose something in silence: labels in a column that nobody reads, or a class in two
spellings that look alike. It is refused and not put right, since ids are file names and classes are
written down in results and checkpoints as they are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from features_store.columns import COLUMNS, FURTHER, misnamed_columns
from features_store.errors import ContractError
from features_store.labels import split_label
from features_store.manifest import ManifestRow


@dataclass(frozen=True, slots=True)
class _Name:
    """A class or a video id, and the video that it is of."""

    text: str
    video_id: str


def refuse_faults(rows: Sequence[ManifestRow], *, where: Path) -> None:
    """Raise `ContractError` for the first thing that would be lost in silence."""
    for fault in faults_of(rows):
        raise ContractError(f"{where}: {fault}")


def faults_of(rows: Sequence[ManifestRow]) -> list[str]:
    """Return columns that nobody reads though another was meant, and names in two spellings."""
    found = [
        f"the column {name!r} is read by nobody; did you mean {meant!r}? Rename it, or give it a "
        "name that is not near to that one"
        for name, meant in _misnamed(rows).items()
    ]
    found += [_alike(names, what="class") for names in _two_spellings(_classes(rows))]
    ids = (_Name(row.video_id, row.video_id) for row in rows)
    return [*found, *(_alike(names, what="video id") for names in _two_spellings(ids))]


def doubts_of(rows: Sequence[ManifestRow]) -> list[str]:
    """Return what may be a slip: columns of no use, names that differ in case alone, blanks."""
    doubts = []
    known = {*FURTHER, *_misnamed(rows)}
    if unread := [name for name in _further(rows) if name not in known]:
        doubts.append(f"columns that are kept and read by nobody: {', '.join(map(repr, unread))}")
    of_ids = (_Name(row.video_id, row.video_id) for row in rows)
    for what, names in (("classes", _classes(rows)), ("video ids", of_ids)):
        if alike := _case_alone(names):
            first = " and ".join(repr(name.text) for name in alike[0])
            doubts.append(f"{what} that differ in case alone: {first}{_more(alike)}")
    if blanks := [row for row in rows if _has_blanks(row.video_id) or _has_blanks(row.path)]:
        doubts.append(
            f"white space at an end of an id or a path is part of it: {blanks[0].video_id!r}"
            + _more(blanks)
        )
    return doubts


def _more(found: Sequence[object]) -> str:
    return f" and {len(found) - 1} more" if len(found) > 1 else ""


def _says(row: ManifestRow, column: str) -> bool:
    return getattr(row, column) not in ("", None)


def _has_blanks(text: str) -> bool:
    return text != text.strip()


def _misnamed(rows: Sequence[ManifestRow]) -> dict[str, str]:
    silent = {name for name in COLUMNS if not any(_says(row, name) for row in rows)}
    return misnamed_columns(_further(rows), silent=silent)


def _further(rows: Iterable[ManifestRow]) -> list[str]:
    """Return the names of further columns."""
    return list(dict.fromkeys(name for row in rows for name in row.extra))


def _classes(rows: Iterable[ManifestRow]) -> Iterator[_Name]:
    """Yield every class once, with the first video that has it."""
    seen: set[str] = set()
    for row in rows:
        if row.label in seen:
            continue
        seen.add(row.label)
        try:
            names: Collection[str] = split_label(row.label)
        except ContractError:
            continue  # whoever reads labels says so
        yield from (_Name(name, row.video_id) for name in names)


def _two_spellings(names: Iterable[_Name]) -> list[list[_Name]]:
    """Return names that are one text in Unicode's composed form."""
    others = (name for name in names if not name.text.isascii())
    return _with_one_key(others, lambda text: unicodedata.normalize("NFC", text))


def _case_alone(names: Iterable[_Name]) -> list[list[_Name]]:
    return _with_one_key(names, str.casefold)


def _with_one_key(names: Iterable[_Name], key: Callable[[str], str]) -> list[list[_Name]]:
    """Return names of several texts that have one key, each text once."""
    first: dict[str, _Name] = {}
    alike: dict[str, dict[str, _Name]] = {}
    for name in names:
        known = first.setdefault(key(name.text), name)
        if known.text != name.text:  # rarely, so that a dictionary for each key is not needed
            of_text = alike.setdefault(key(name.text), {known.text: known})
            of_text.setdefault(name.text, name)
    return [list(of_text.values()) for of_text in alike.values()]


def _alike(names: Sequence[_Name], *, what: str) -> str:
    # The code points, since the texts look alike.
    spelled = " and ".join(f"{n.text!a} (video {n.video_id!a})" for n in names)
    return f"one {what} in {len(names)} spellings that look alike: {spelled}; write it in one way"
