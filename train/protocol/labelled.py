"""The labelled videos of a store, ready to be fitted on, and how they are split."""

from __future__ import annotations

import logging

import torch

from features_store.store import Store
from train.data.clips import Clips
from train.fit.config import TrainConfig
from train.fit.tasks import task_of
from train.protocol.label_rows import label_rows
from train.protocol.runs import Labelled
from train.protocol.splits import Split, make_folds, split_by_manifest

logger = logging.getLogger("cubereel")


def load_labelled(
    store: Store, config: TrainConfig, device: torch.device
) -> tuple[Labelled, bool, int, list[str]]:
    """Return the labelled videos of a store, whether groups are said, and what is left out.

    Raises:
        ContractError: the store's manifest has too few classes, or labels that the configuration
            does not allow.
    """
    manifest, task = store.manifest, task_of(config)
    known = label_rows(
        (manifest[video_id] for video_id in store.ids if video_id in manifest),
        manifest=store.path / "manifest.csv",
        num_videos=len(store),
        task=task,
    )
    missing = sorted(video_id for video_id in manifest if video_id not in store)
    if missing:
        logger.warning(
            "%d of %d videos of the manifest are not in the store (first: %s)",
            len(missing), len(manifest), missing[0],
        )  # fmt: skip
    unlabelled = len(store) - len(known.rows)
    if unlabelled:
        logger.warning("%d videos of the store have no label and are left out", unlabelled)
    clips = Clips(
        store,
        known.ids,
        windows=config.window_plan,
        layers=config.layers,
        view=config.view,
        device=device,
    )
    data = Labelled(clips, known.labels, known.groups, known.classes, task)
    return data, any(row.group for row in known.rows), unlabelled, missing


def make_splits(
    store: Store, data: Labelled, *, folds: int | None, config: TrainConfig
) -> list[Split]:
    """Return the folds, or the one split that the manifest says."""
    if folds is not None:
        return make_folds(
            data.labels,
            data.groups,
            num_folds=folds,
            inner_folds=config.inner_folds,
            seed=config.split_seed,
        )
    manifest = store.manifest
    said = [manifest[video_id].split for video_id in data.clips.video_ids]
    if unused := said.count(""):
        logger.warning("%d labelled videos have no split and are used nowhere", unused)
    split = split_by_manifest(
        said,
        data.labels,
        data.groups,
        inner_folds=config.inner_folds,
        seed=config.split_seed,
    )
    return [split]
