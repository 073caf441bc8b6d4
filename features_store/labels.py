"""The column `label`: a class, several with `;` between them, or a lone `;` for none of them.

An empty label says nothing: the video may show any class or none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from features_store.errors import ContractError
from features_store.manifest import ManifestRow

SEPARATOR = ";"
NONE_OF_THEM = SEPARATOR
_WITH_TIMES = re.compile(r"(\S+)\s+\d+\.\d+\s+\d+\.\d+")  # as the lists of Charades have them


def split_label(label: str) -> list[str]:
    """Return the classes that a label names: of an empty one and of a lone `;` there are none.

    >>> split_label("sit; talk"), split_label("run"), split_label(";")
    (['sit', 'talk'], ['run'], [])

    Raises:
        ContractError: a name is empty, stands there twice or has times beside it.
    """
    if label.strip() in ("", NONE_OF_THEM):
        return []
    names = [name.strip() for name in label.split(SEPARATOR)]
    if "" in names:
        raise ContractError(
            f"label {label!r} has an empty name beside a {SEPARATOR!r}; write the classes with one "
            f"between two, or a lone {NONE_OF_THEM!r} for none of them"
        )
    if timed := [found[1] for name in names if (found := _WITH_TIMES.fullmatch(name))]:
        classes = join_label(dict.fromkeys(timed))
        raise ContractError(
            f"label {label!r} has times beside its classes, as the lists of Charades do, and a "
            f"label is of the whole video; write the classes alone: {classes!r}"
        )
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ContractError(f"label {label!r} names {twice[0]!r} twice; write it once")
    return names


def classes_of(row: ManifestRow) -> list[str]:
    """Return the classes that the label of a video names; see `split_label`."""
    try:
        return split_label(row.label)
    except ContractError as err:
        raise ContractError(f"video {row.video_id!r}: {err}") from err


def join_label(names: Iterable[str]) -> str:
    """Return the label that names these classes.

    >>> join_label(["sit", "talk"]), join_label([])
    ('sit;talk', ';')
    """
    return SEPARATOR.join(names) or NONE_OF_THEM


def check_class_name(name: str, *, where: str) -> str:
    """Return the name of a class; raise `ContractError` for one that would read as several."""
    if SEPARATOR in name:
        raise ContractError(
            f"{where}: the class {name!r} has a {SEPARATOR!r}, which stands between the classes of "
            "a label here; rename it there"
        )
    return name
