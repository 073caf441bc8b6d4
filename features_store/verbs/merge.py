"""Stores of the same spec into one: `append` into one that exists, `merge` into a new one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from features_store.errors import UsageError
from features_store.metadata import StoreHeader, read_header, reconcile
from features_store.store import Store
from features_store.verbs.transfer import OnVideos, TransferReport, transfer


def append_stores(
    target: str | Path, sources: Sequence[str | Path], *, on_videos: OnVideos = lambda _, __: None
) -> TransferReport:
    """Copy every video of the sources that `target` lacks into it; safe to run again.

    Every video keeps the licence, origin and citation of its source.

    Raises:
        SpecMismatchError: a source was written under another spec; nothing was changed.
        StoreError: a source has other layers, views or another dtype, or an id stands for
            different videos; nothing was copied.
    """
    header = read_header(Path(target))
    return _join(Path(target), header, sources, like=target, on_videos=on_videos, verb="append")


def merge_stores(
    sources: Sequence[str | Path], out: str | Path, *, on_videos: OnVideos = lambda _, __: None
) -> TransferReport:
    """Copy every video of the sources into the store `out`, which is made; safe to run again.

    Raises: as `append_stores`.
    """
    if not sources:
        raise UsageError("nothing to merge; name at least one store")
    header = read_header(Path(sources[0]))
    return _join(Path(out), header, sources, like=sources[0], on_videos=on_videos, verb="merge")


def _join(
    target: Path,
    header: StoreHeader,
    sources: Sequence[str | Path],
    *,
    like: str | Path,
    on_videos: OnVideos,
    verb: str,
) -> TransferReport:
    """Copy videos of stores whose headers agree with that of the store `like`."""
    with ExitStack() as stack:
        stores = [stack.enter_context(Store(source)) for source in sources]
        for store in stores:
            encoded = replace(store.header, compression=header.compression)
            reconcile(header, encoded, store=Path(like), added=store.path)
        return transfer(stores, target, header, verb=verb, on_videos=on_videos)
