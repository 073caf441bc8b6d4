"""Names of a manifest's columns: which are read, and which of them another name may mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from features_store.errors import ContractError

COLUMNS = ("video_id", "path", "label", "group", "split", "start_seconds", "end_seconds")
# Read where they are there: of files (extraction plans by them), and of imported features.
FURTHER = (
    *("num_frames", "fps", "duration_seconds"),
    *("feat_stride", "feat_num_frames", "annotations", "num_classes"),
)
_OTHER_WORDS: Mapping[str, tuple[str, ...]] = {  # in small letters, without blanks, '_', '-', '.'
    "video_id": ("videoids", "videoname"),
    "path": ("paths", "file", "files", "filename", "filepath", "video", "videopath", "videofile"),
    "label": (
        *("labels", "class", "classes", "classname", "classlabel", "classid", "labelid"),
        *("labelname", "category", "action", "actions", "target"),
    ),
    "group": ("groups", "groupid"),
    "split": ("splits", "subset", "subsets", "set", "partition"),
    "start_seconds": ("start", "starttime", "startsec", "timestart", "tstart", "begin"),
    "end_seconds": ("end", "endtime", "endsec", "timeend", "tend", "stop"),
}
_SEPARATORS = re.compile(r"[\s_.\-]+")
_KNOWN = {_SEPARATORS.sub("", name): name for name in COLUMNS}
_WORDS = _KNOWN | {word: name for name, words in _OTHER_WORDS.items() for word in words}
_NEAR = 0.8  # 'lable' is; 'num_classes' is not near to anything


def check_header(path: Path, columns: Sequence[str]) -> None:
    """Raise `ContractError` unless a manifest's columns are one `path` and others, each once."""
    if "path" not in columns:
        meant = [name for name in columns if meant_column(name) == "path"]
        hint = f"; did you mean {meant[0]!r} as the path? Rename it" if meant else ""
        if len(columns) == 1 and (others := [mark for mark in ";\t|" if mark in columns[0]]):
            hint = f", which {others[0]!r} parts; write the table with commas between its fields"
        raise ContractError(f"manifest {path} has no column 'path'; its columns: {columns}{hint}")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ContractError(f"manifest {path} has the column {twice[0]!r} twice; remove one")


def meant_column(name: str) -> str | None:
    """Return the column that another name may mean.

    >>> meant_column("Label"), meant_column(" class"), meant_column("lable"), meant_column("scene")
    ('label', 'label', 'label', None)
    """
    plain = _plain(name)
    if plain not in _WORDS:
        plain = next(iter(get_close_matches(plain, _KNOWN, n=1, cutoff=_NEAR)), "")
    return _WORDS.get(plain)


def misnamed_columns(unread: Iterable[str], *, silent: Collection[str]) -> dict[str, str]:
    """Return the columns that nobody reads though another was meant, and which that is.

    Args:
        unread: names of further columns.
        silent: columns that say nothing of any video. Beside one that does, another name is a
            column of its own, unless it differs in nothing but case, blanks and hyphens.

    >>> misnamed_columns(["class", "Split", "scene"], silent={"label"})
    {'class': 'label', 'Split': 'split'}
    """
    found = {}
    for name in unread:
        meant = None if name in FURTHER else meant_column(name)
        if meant is not None and (meant in silent or _plain(name) in _KNOWN):
            found[name] = meant
    return found


def _plain(name: str) -> str:
    return _SEPARATORS.sub("", name.casefold())
