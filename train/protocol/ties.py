"""What ties videos together, so that a split must not part them: a group, a file, equal content."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from features_store.errors import ContractError
from features_store.manifest import ManifestRow

NAMED_VIDEOS = 3  # of a side, in a message


@dataclass(frozen=True)
class Leak:
    """Videos that are tied together and lie on several sides of a split.

    Attributes:
        kind: ``group``, ``file`` (time spans of one) or ``media`` (files with equal content).
        value: the group, the path, or the SHA-256 of the content.
        videos: ids by side.
    """

    kind: str
    value: str
    videos: dict[str, list[str]]

    def __str__(self) -> str:
        named = (f"{side} has {_first_of(ids)}" for side, ids in self.videos.items())
        return f"{self.kind} {self.value!r} is on {len(self.videos)} sides: {'; '.join(named)}"


def _first_of(ids: Sequence[str]) -> str:
    """Return some ids in words, and how many more there are."""
    named = ", ".join(map(repr, ids[:NAMED_VIDEOS]))
    more = len(ids) - NAMED_VIDEOS
    return f"{named} and {more} more" if more > 0 else named


def find_leaks(
    rows: Sequence[ManifestRow], sides: Sequence[str], *, media: Mapping[str, str]
) -> list[Leak]:
    """Return every tie between two sides; a row whose side is empty is on none.

    Args:
        media: hash of a video's file by video id, where it is known.

    >>> rows = [ManifestRow("a", "a", group="g"), ManifestRow("b", "b", group="g")]
    >>> print(*find_leaks(rows, ["train", "test"], media={}))
    group 'g' is on 2 sides: test has 'b'; train has 'a'
    """
    placed = [row for row, side in zip(rows, sides, strict=True) if side]
    side_of = {row.video_id: side for row, side in zip(rows, sides, strict=True)}
    leaks = []
    for (kind, value), tied in sorted(_by_tie(placed, media).items()):
        videos = defaultdict(list)
        for row in tied:
            videos[side_of[row.video_id]].append(row.video_id)
        # Spans of one file have equal content too; once is enough to say that.
        is_said = kind == "media" and len({row.path for row in tied}) == 1
        if len(videos) > 1 and not is_said:
            leaks.append(Leak(kind, value, {side: sorted(videos[side]) for side in sorted(videos)}))
    return leaks


def refuse_leaks(
    rows: Sequence[ManifestRow], sides: Sequence[str], *, media: Mapping[str, str]
) -> None:
    """Raise `ContractError` that names the first tie between two sides of a manifest's split.

    Who gives each time span of a file a group says which of them are alike, and may have them on
    several sides. Equal content is not refused: splits that were published have it, and it is what
    others' numbers are of. `content_leaks` names it.
    """
    with_group = {row.video_id for row in rows if row.group}
    leaks = [leak for leak in find_leaks(rows, sides, media=media) if leak.kind != "media"]
    refused = [
        leak
        for leak in leaks
        if leak.kind == "group" or not with_group.issuperset(chain(*leak.videos.values()))
    ]
    if refused:
        raise ContractError(
            f"the split of the manifest parts videos that are alike: {refused[0]} ({len(refused)} "
            "such ties); put tied videos on one side ('cubereel manifest leaks' names all ties, "
            "'cubereel manifest split' makes a split without)"
        )


def content_leaks(
    rows: Sequence[ManifestRow], sides: Sequence[str], *, media: Mapping[str, str]
) -> list[Leak]:
    """Return the files of equal content that are on several sides."""
    return [leak for leak in find_leaks(rows, sides, media=media) if leak.kind == "media"]


def parts_a_set(sets: Int[np.ndarray, " n"], sides: Sequence[str]) -> bool:
    """Whether rows of one set are on several sides; a row whose side is empty is on none.

    >>> parts_a_set(np.array([0, 0, 1]), ["train", "", "test"])
    False
    """
    placed = {(number, side) for number, side in zip(sets.tolist(), sides, strict=True) if side}
    return len(placed) > len({number for number, _ in placed})


def tied_sets(rows: Sequence[ManifestRow], *, media: Mapping[str, str]) -> Int[np.ndarray, " n"]:
    """Return the number of each row's set: rows that a chain of ties connects share one.

    >>> rows = [ManifestRow("a", "f", group="g"), ManifestRow("b", "b"), ManifestRow("c", "f")]
    >>> tied_sets(rows, media={}).tolist()
    [0, 1, 0]
    """
    position = {row.video_id: i for i, row in enumerate(rows)}
    pairs = [
        (position[tied[0].video_id], position[row.video_id])
        for tied in _by_tie(rows, media).values()
        for row in tied
    ]
    shape = (len(rows), len(rows))
    graph = coo_array((np.ones(len(pairs)), tuple(zip(*pairs, strict=True))), shape=shape)
    sets: np.ndarray = connected_components(graph, directed=False)[1]
    return sets


def _by_tie(
    rows: Sequence[ManifestRow], media: Mapping[str, str]
) -> dict[tuple[str, str], list[ManifestRow]]:
    """Return the rows of every group, file and content; what is not said ties nothing."""
    tied = defaultdict(list)
    for row in rows:
        said = {"group": row.group, "file": row.path, "media": media.get(row.video_id, "")}
        for kind, value in said.items():
            if value:
                tied[kind, value].append(row)
    return tied
