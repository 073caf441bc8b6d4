"""Parts of a store, or all of it encoded otherwise, as a new store of the same spec."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from features_store.errors import ContractError, UsageError, nearest_name
from features_store.format.encodings import COMPACT
from features_store.manifest import ManifestRow, side_of
from features_store.sources import SourceTerms
from features_store.store import Store
from features_store.verbs.options import RepackOptions as RepackOptions
from features_store.verbs.transfer import OnVideos, TransferReport, transfer


def subset_store(
    source: str | Path,
    out: str | Path,
    *,
    ids: Collection[str] = (),
    labels: Collection[str] = (),
    groups: Collection[str] = (),
    splits: Collection[str] = (),
    on_videos: OnVideos = lambda _, __: None,
) -> TransferReport:
    """Copy the videos that meet every condition given into the store `out`; safe to run again.

    Raises:
        UsageError: there is no such id, label, group or split.
        ContractError: no video meets the conditions.
    """
    said = {"label": set(labels), "group": set(groups), "split": set(splits)}
    said = {name: values for name, values in said.items() if values}
    if not (ids or said):
        raise UsageError("no condition given; name ids, labels, groups or splits")
    with Store(source) as store:
        for video_id in ids:
            store.position(video_id)
        chosen = choose_videos(store, set(ids), said)
        header = replace(store.header, sources=_sources_of(store, chosen))
        return transfer([store], Path(out), header, verb="subset", ids=chosen, on_videos=on_videos)


def choose_videos(store: Store, wanted: set[str], said: Mapping[str, set[str]]) -> list[str]:
    """Return the wanted videos, or all, of which the manifest says one of the values of each.

    Raises:
        UsageError: the manifest has no such value.
        ContractError: no video is left.
    """
    manifest = store.manifest if said else {}
    for name, values in said.items():
        there = {_said_of(row, name) for row in manifest.values()}
        unknown = sorted(value for value in values if _meaning(name, value) not in there)
        if unknown:
            hint = nearest_name(unknown[0], sorted(there - {""}))
            raise UsageError(f"the manifest of {store.path} has no {name} {unknown[0]!r}; {hint}")
    meant = {name: {_meaning(name, value) for value in values} for name, values in said.items()}
    chosen = [
        video_id
        for video_id in store.ids
        if (not wanted or video_id in wanted)
        and all(
            video_id in manifest and _said_of(manifest[video_id], name) in values
            for name, values in meant.items()
        )
    ]
    if not chosen:
        raise ContractError(f"no video of {store.path} meets all conditions; nothing was written")
    return chosen


def _said_of(row: ManifestRow, name: str) -> str:
    return _meaning(name, getattr(row, name))


def _meaning(name: str, value: str) -> str:
    """Return a value of a column, one word for those that mean the same."""
    return side_of(value) if name == "split" else value


def _sources_of(store: Store, video_ids: Sequence[str]) -> tuple[SourceTerms, ...]:
    """Return the sources that some of a store's videos are from."""
    if len(store.header.sources) == 1:
        return store.header.sources
    used = {store.video(video_id).source for video_id in video_ids}
    for source_id in used:
        store.header.source(source_id)  # of which nothing may be said
    return tuple(source for source in store.header.sources if source.id in used)


def repack_store(
    source: str | Path,
    out: str | Path,
    options: RepackOptions = RepackOptions(),  # noqa: B008 (immutable)
    *,
    on_videos: OnVideos = lambda _, __: None,
) -> TransferReport:
    """Copy a store, encoded otherwise, without some layers or views; safe to run again.

    Raises:
        UsageError: a layer or view that is not there.
        StoreError: values that the dtype cannot hold.
    """
    with Store(source) as store:
        old = store.header
        for view in options.views:
            old.require_view(view)
        kept = {old.layer(name).name for name in options.layers} or {
            layer.name for layer in old.layers
        }
        dtype, compression = COMPACT if options.compact else (options.dtype, options.compression)
        header = replace(
            old,
            dtype=dtype or old.dtype,
            compression=compression or old.compression,
            layers=tuple(layer for layer in old.layers if layer.name in kept),
            has_diff_cubes=old.has_diff_cubes and not options.drop_diff_cubes,
            views=tuple(view for view in old.views if not options.views or view in options.views),
        )
        return transfer(
            [store],
            Path(out),
            header,
            verb="repack",
            shard_bytes=options.shard_bytes,
            on_videos=on_videos,
        )
