"""Parts of a store, or all of it encoded otherwise, as a new store of the same spec."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from features_store.errors import ContractError, UsageError
from features_store.format.layout import SHARD_BYTES
from features_store.metadata import StoreHeader
from features_store.plain import to_plain
from features_store.runs import new_run_id, write_run
from features_store.session import StoreSession
from features_store.sources import SourceTerms
from features_store.store import Store
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
        StoreError: an id is not in the source.
        ContractError: no video meets the conditions.
    """
    if not (ids or labels or groups or splits):
        raise UsageError("no condition given; name ids, labels, groups or splits")
    with Store(source) as store:
        for video_id in ids:
            store.position(video_id)
        chosen = _choose(store, ids=ids, labels=labels, groups=groups, splits=splits)
        header = replace(store.header, sources=_sources_of(store, chosen))
        return _copy(store, header, Path(out), "subset", ids=chosen, on_videos=on_videos)


def _choose(
    store: Store,
    *,
    ids: Collection[str],
    labels: Collection[str],
    groups: Collection[str],
    splits: Collection[str],
) -> list[str]:
    said = {name: set(values) for name, values in
            (("label", labels), ("group", groups), ("split", splits)) if values}  # fmt: skip
    manifest = store.manifest if said else {}
    for name, values in said.items():
        unknown = sorted(values - {getattr(row, name) for row in manifest.values()})
        if unknown:
            raise ContractError(f"the manifest of {store.path} has no {name} {unknown[0]!r}")
    wanted = set(ids)
    chosen = [
        video_id
        for video_id in store.ids
        if (not wanted or video_id in wanted)
        and all(
            video_id in manifest and getattr(manifest[video_id], name) in values
            for name, values in said.items()
        )
    ]
    if not chosen:
        raise ContractError(f"no video of {store.path} meets all conditions; nothing was written")
    return chosen


def _sources_of(store: Store, video_ids: Sequence[str]) -> tuple[SourceTerms, ...]:
    """Return the sources that some of a store's videos are from."""
    if len(store.header.sources) == 1:
        return store.header.sources
    used = {store.video(video_id).source for video_id in video_ids}
    for source_id in used:
        store.header.source(source_id)  # of which nothing may be said
    return tuple(source for source in store.header.sources if source.id in used)


@dataclass(frozen=True, kw_only=True)
class RepackOptions:
    """What becomes of a store that is copied.

    Attributes:
        dtype, compression: of the cubes; None is as before.
        layers, views: to keep, in any order; all when empty.
        drop_diff_cubes: leave out the cubes of difference images.
        shard_bytes: before compression. Shards that have scales are split but not joined.
    """

    dtype: str | None = None
    compression: str | None = None
    layers: Sequence[str] = ()
    views: Sequence[str] = ()
    drop_diff_cubes: bool = False
    shard_bytes: int = SHARD_BYTES


def repack_store(
    source: str | Path,
    out: str | Path,
    options: RepackOptions = RepackOptions(),
    *,
    on_videos: OnVideos = lambda _, __: None,
) -> TransferReport:
    """Copy a store, encoded otherwise, without some layers or views; safe to run again.

    Raises:
        StoreError: a layer or view that is not there, or values that the dtype cannot hold.
    """
    if options.shard_bytes < 1:
        raise UsageError(f"the size of a shard must be positive, got {options.shard_bytes}")
    with Store(source) as store:
        old = store.header
        unknown = sorted(set(options.views) - set(old.views))
        if unknown:
            raise UsageError(f"no view {unknown[0]!r} in {source}; there are: {old.views}")
        kept = {old.layer(name).name for name in options.layers} or {
            layer.name for layer in old.layers
        }
        header = replace(
            old,
            dtype=options.dtype or old.dtype,
            compression=options.compression or old.compression,
            layers=tuple(layer for layer in old.layers if layer.name in kept),
            has_diff_cubes=old.has_diff_cubes and not options.drop_diff_cubes,
            views=tuple(view for view in old.views if not options.views or view in options.views),
        )
        return _copy(
            store, header, Path(out), "repack", shard_bytes=options.shard_bytes, on_videos=on_videos
        )


def _copy(
    store: Store,
    header: StoreHeader,
    out: Path,
    verb: str,
    *,
    ids: Sequence[str] | None = None,
    shard_bytes: int = SHARD_BYTES,
    on_videos: OnVideos,
) -> TransferReport:
    if out.resolve() == store.path.resolve():
        raise UsageError(f"{out} cannot be written over itself; give `out` another folder")
    run_id = new_run_id()
    store.check_shards()
    with StoreSession(out, header, run_id=run_id) as writer:
        report = transfer(
            [store], writer, run_id=run_id, ids=ids, shard_bytes=shard_bytes, on_videos=on_videos
        )
        write_run(out, run_id, {"verb": verb, **to_plain(report)})
    return report
