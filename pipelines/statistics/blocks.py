"""Rows of a shard cut into blocks so that no HDF5 chunk is in two of them: pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

Run = tuple[int, int]  # rows `start` to `stop` of a shard


class Block(NamedTuple):
    """What one task reads: rows of one shard, in order.

    Attributes:
        shard: file name below ``shards/``.
        runs: pairs (start, stop) of rows, rising, that do not touch.
    """

    shard: str
    runs: tuple[Run, ...]

    @property
    def num_rows(self) -> int:
        """Rows of all runs."""
        return sum(stop - start for start, stop in self.runs)


def join_runs(runs: Iterable[Run]) -> list[Run]:
    """Return rising runs with those that touch made one.

    >>> join_runs([(0, 3), (3, 5), (7, 9)])
    [(0, 5), (7, 9)]
    """
    joined: list[Run] = []
    for start, stop in runs:
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, stop))
    return joined


def cut_runs(runs: Iterable[Run], *, chunk_rows: int, max_chunks: int) -> list[tuple[Run, ...]]:
    """Cut rising runs into blocks that touch at most `max_chunks` chunks each.

    Every row is in one block, in order; no chunk is touched by two blocks.

    >>> cut_runs([(0, 5), (7, 9)], chunk_rows=4, max_chunks=1)
    [((0, 4),), ((4, 5), (7, 8)), ((8, 9),)]
    """
    blocks: list[list[Run]] = []
    last_chunk, num_chunks = -1, max_chunks
    for start, stop in runs:
        while start < stop:
            chunk = start // chunk_rows
            is_new = chunk != last_chunk
            if is_new and num_chunks == max_chunks:
                blocks.append([])
                num_chunks = 0
            # A chunk that the block has already touched costs nothing again.
            room = max_chunks - num_chunks + (not is_new)
            end = min(stop, (chunk + room) * chunk_rows)
            blocks[-1].append((start, end))
            last_chunk = (end - 1) // chunk_rows
            num_chunks += last_chunk - chunk + is_new
            start = end
    return [tuple(block) for block in blocks]


def reads_of(runs: Sequence[Run], *, chunk_rows: int) -> list[list[Run]]:
    """Group runs that share a chunk: each group is read at once, from its first row to its last.

    >>> reads_of([(0, 2), (3, 5), (8, 9)], chunk_rows=4)
    [[(0, 2), (3, 5)], [(8, 9)]]
    """
    groups: list[list[Run]] = []
    for start, stop in runs:
        if groups and (groups[-1][-1][1] - 1) // chunk_rows == start // chunk_rows:
            groups[-1].append((start, stop))
        else:
            groups.append([(start, stop)])
    return groups
