"""What a run of `train` did, and what all fits of its folder have in common."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from features_store.spec import canonical_json
from features_store.store import Store
from train.fitting.checkpoint import library_versions
from train.fitting.config import TrainConfig
from train.fitting.tasks import task_of
from train.protocol.labelled import LoadedVideos
from train.protocol.results import HeadRow
from train.protocol.runs import Labelled, warn_of_missing_classes
from train.protocol.splits import Split, split_hash
from train.protocol.ties import content_leaks, parts_a_set

logger = logging.getLogger("cubereel")

FEW_GROUPS = 20


@dataclass
class TrainReport:
    """What `train` did; also ``results.json`` in the run folder.

    Attributes:
        revision: of the store: which shards it consisted of.
        chosen, ensemble: the head, and the three heads, that each fold's validation liked best;
            empty where there are no more heads than that.
        metric: the score that heads are chosen and compared by, a field of every row.
    """

    run: str
    store: str
    spec_digest: str
    revision: str
    num_videos: int
    num_groups: int
    classes: list[str]
    split_hashes: list[str]
    unlabelled: int
    missing: list[str]
    config: dict[str, Any]
    num_seeds: int
    versions: dict[str, str]
    warnings: list[str]
    metric: str
    heads: list[HeadRow] = field(default_factory=list)
    chosen: dict[str, Any] = field(default_factory=dict)
    ensemble: dict[str, Any] = field(default_factory=dict)


def begin_report(
    store: Store,
    loaded: LoadedVideos,
    splits: Sequence[Split],
    *,
    run: Path,
    config: TrainConfig,
    num_seeds: int,
) -> TrainReport:
    """Return the report of a run before its first fit; log what a reader should know."""
    data, ids = loaded.data, loaded.data.clips.video_ids
    return TrainReport(
        run=str(run),
        store=str(store.path),
        spec_digest=store.header.spec.digest,
        revision=store.revision,
        num_videos=len(ids),
        num_groups=len(set(data.groups.tolist())),
        classes=list(data.classes),
        split_hashes=[split_hash(ids, split) for split in splits],
        unlabelled=loaded.num_unlabelled,
        missing=loaded.missing,
        config=config.model_dump(),
        num_seeds=num_seeds,
        versions=library_versions(),
        warnings=[*warn_of_missing_classes(data, splits), *_warn(store, loaded, splits)],
        metric=task_of(config).metric,
    )


def _warn(store: Store, loaded: LoadedVideos, splits: Sequence[Split]) -> list[str]:
    """Log and return what is doubtful about the videos."""
    ids, warnings = loaded.data.clips.video_ids, []
    if not loaded.has_groups:
        warnings.append("the manifest has no groups: each video is its own")
    if num_partial := len(set(ids).intersection(store.partial_ids)):
        warnings.append(f"{num_partial} of {len(ids)} videos are partial: they break off")
    tested = np.concatenate([split.test for split in splits])
    num_tested = len(np.unique(loaded.data.groups[tested]))
    if num_tested == 1:
        warnings.append("all test videos are of one group: there is no s.e. and no interval")
    elif num_tested < FEW_GROUPS:
        warnings.append(
            f"the test videos are of {num_tested} groups, fewer than {FEW_GROUPS}: take their "
            "intervals for rough"
        )
    warnings += _leaks(store, loaded.data, splits)
    for warning in warnings:
        logger.warning("%s", warning)
    return warnings


def _leaks(store: Store, data: Labelled, splits: Sequence[Split]) -> list[str]:
    """Return what a split has of equal content among its test videos and those fitted on."""
    ids, found = data.clips.video_ids, []
    for split in splits:
        sides = np.full(len(ids), "", object)
        sides[split.fitting], sides[split.test] = "fitting", "test"
        if parts_a_set(data.groups, sides.tolist()):
            rows = [store.manifest[video_id] for video_id in ids]
            leaks = content_leaks(rows, sides.tolist(), media=store.media_hashes())
            found += [f"scores may be too high: {leak}" for leak in leaks]
    return found


def identity(report: TrainReport, data: Labelled) -> dict[str, Any]:
    """Return what all fits of a run folder have in common: features to the bit, labels, splits."""
    ids, store = data.clips.video_ids, data.clips.store
    records = (store.video(video_id) for video_id in ids)
    return {
        "spec_digest": report.spec_digest,
        "dtype": store.header.dtype,
        "features": _digest([[record.length, *record.checksums] for record in records]),
        "labels": _digest([ids, data.labels.tolist(), list(data.classes)]),
        "split_hashes": report.split_hashes,
        "versions": report.versions,
    }


def _digest(said: Any) -> str:
    return hashlib.sha256(canonical_json(said)).hexdigest()
