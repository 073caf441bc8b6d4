"""Mending a damaged store: what is sound stays, what is not is set aside and said."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from features_store.appending import with_claimed
from features_store.catalogue import PARTIAL, read_catalogue, write_catalogue
from features_store.format.regular_file import check_own_folder
from features_store.index import load_index
from features_store.listing import list_shards
from features_store.locking import lock_store
from features_store.metadata import read_header
from features_store.plain import to_plain
from features_store.runs import new_run_id, write_run
from features_store.session import StoreSession, finish_pending
from features_store.verbs.mender import Mender, age


@dataclass
class RepairReport:
    """What `repair_store` did.

    Attributes:
        damaged: shards that were set aside in ``damaged/``, or were gone -> what was wrong.
        adopted: sound shards that the catalogue did not list, and that are the store's now.
        lost: ids that the store does not hold any more; extraction refills them.
        salvaged: shards made of what a killed run had committed.
    """

    run_id: str
    store: str
    damaged: dict[str, list[str]] = field(default_factory=dict)
    adopted: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    salvaged: list[str] = field(default_factory=list)
    num_videos: int = 0


def repair_store(store: Path) -> RepairReport:
    """Read every byte; rebuild what is damaged from what is sound; bring the index up to date.

    Raises:
        StoreError: `store.json` itself is damaged, or somebody is writing the store.
    """
    header = read_header(store)
    report = RepairReport(new_run_id(), str(store))
    with lock_store(store):
        for name in ("damaged", "shards", "runs"):
            check_own_folder(store / name)
        mender = Mender(store, header, report.run_id)
        mender.catalogue = with_claimed(store, mender.catalogue)
        # First: what is listed after a pending shard would hide that it is one.
        mender.catalogue, finished = finish_pending(store, mender.catalogue)
        if mender.move_home():
            mender.catalogue, _ = finish_pending(store, mender.catalogue)
        for name in list(mender.catalogue.shards):
            mender.mend(name)
        for name in sorted(list_shards(store), key=age):
            mender.adopt(name)
        mender.resolve_copies()
        # A new one at the end: half of one would be taken for the one that was lost.
        write_catalogue(store, mender.catalogue)
        for partial in sorted((store / "shards").glob(f"*{PARTIAL}")):
            mender.check_partial(partial)
        mender.drop_index()
    with StoreSession(store, header, run_id=report.run_id) as writer:
        report.damaged, report.adopted = mender.damaged, mender.adopted
        report.salvaged = [shard.name for shard in finished + writer.salvaged]
    catalogue = read_catalogue(store, spec_digest=header.spec.digest)
    after = load_index(store, header, catalogue)
    report.num_videos = len(after.ids)
    report.lost = sorted(video_id for video_id in mender.lost if after.find(video_id) is None)
    write_run(store, report.run_id, {"verb": "repair", **to_plain(report)})
    return report
