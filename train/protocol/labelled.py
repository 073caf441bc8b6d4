"""The labelled videos of a store, ready to be fitted on, and how they are split."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from features_store.checks import doubts_of, refuse_faults
from features_store.errors import ContractError
from features_store.labels import NONE_OF_THEM, SEPARATOR, classes_of
from features_store.manifest import FILE_NAME, ManifestRow, side_of
from features_store.store import Store
from train.data.clips import Clips
from train.data.labels import Labels
from train.data.pages import SharedPages
from train.fitting.config import TrainConfig
from train.fitting.tasks import Task, task_of
from train.protocol.runs import Labelled
from train.protocol.splits import Split, make_folds, split_by_manifest
from train.protocol.ties import parts_a_set, refuse_leaks, tied_sets

logger = logging.getLogger("cubereel")


@dataclass(frozen=True)
class LabelledRows:
    """Rows that have a label.

    Attributes:
        labels: of `classes`, as their task has them.
        groups: number of each video's set of tied videos, see `train.protocol.ties`.
    """

    rows: tuple[ManifestRow, ...]
    labels: Labels
    groups: np.ndarray
    classes: tuple[str, ...]

    @property
    def ids(self) -> list[str]:
        """Their video ids."""
        return [row.video_id for row in self.rows]


def label_rows(
    rows: Iterable[ManifestRow],
    *,
    media: Mapping[str, str],
    manifest: Path,
    num_videos: int,
    task: Task,
) -> LabelledRows:
    """Return the rows that have a label, in their order.

    Rows without a label tie others too: two spans may be alike by a third that is left out.

    Args:
        media: hash of a video's file by video id, where it is known.
        manifest, num_videos: where the rows are from and of how many videos, for the error.

    Raises:
        ContractError: there are labels of too few classes (two, or one where it may be lacking), a
            label that the task does not allow, or something that `features_store.checks` refuses.
    """
    rows = list(rows)
    refuse_faults(rows, where=manifest)
    labelled = tuple(row for row in rows if row.label)
    names = [class_names(row, task=task, manifest=manifest) for row in labelled]
    classes = tuple(sorted({name for said in names for name in said}))
    if len(classes) < (1 if task.multi_label else 2):
        said = f"only the label {classes[0]!r}" if classes else "no labels"
        raise ContractError(
            f"{manifest} has {said} for its {num_videos} videos; fill its column 'label' with "
            + ("classes" if task.multi_label else "two classes or more")
        )
    labels = encode(names, classes, task=task)
    groups = tied_sets(rows, media=media)[[bool(row.label) for row in rows]]
    return LabelledRows(labelled, labels, groups, classes)


def class_names(row: ManifestRow, *, task: Task, manifest: Path) -> Sequence[str]:
    """Return the classes that a row's label names.

    Raises:
        ContractError: they are several, or none, where each video has one.
    """
    if task.multi_label:
        return classes_of(row)
    if SEPARATOR in row.label:
        classes_of(row)  # may say what is wrong with it
        meant = "none of the classes" if row.label == NONE_OF_THEM else "several classes"
        raise ContractError(
            f"{manifest}: video {row.video_id!r} has the label {row.label!r}, which means {meant}; "
            f"give `multi_label`, or take the {SEPARATOR!r} out of the label"
        )
    return classes_of(row)


def encode(names: Iterable[Sequence[str]], classes: Sequence[str], *, task: Task) -> Labels:
    """Return the labels of videos from the names of their classes."""
    position = {name: i for i, name in enumerate(classes)}
    return task.encode([[position[name] for name in said] for said in names], len(classes))


def group_names(rows: Iterable[ManifestRow]) -> list[str]:
    """Return the group of each row; spans of a file without a group share one."""
    return [row.group or f"video {row.path}" for row in rows]


def warn_of_groups(rows: Sequence[ManifestRow]) -> None:
    """Say of how many videos the manifest says no group."""
    if ungrouped := sum(1 for row in rows if not row.group):
        logger.warning("%d of %d videos have no group: each file is its own", ungrouped, len(rows))


@dataclass(frozen=True)
class LoadedVideos:
    """The labelled videos of a store.

    Attributes:
        has_groups: the manifest says a group of at least one of them.
        num_unlabelled: stored videos without a label, which are left out.
        missing: ids of the manifest that are not in the store.
    """

    data: Labelled
    has_groups: bool
    num_unlabelled: int
    missing: list[str]


def load_labelled(
    store: Store,
    config: TrainConfig,
    device: torch.device,
    *,
    pages: SharedPages | None = None,
    memory_bytes: int | None = None,
) -> LoadedVideos:
    """Return the labelled videos of a store; log how many are left out.

    Args:
        pages: in which the clips lie, or are to lie.
        memory_bytes: see `Clips`.

    Raises:
        ContractError: the store's manifest has too few classes, or labels that the configuration
            does not allow.
    """
    manifest, task = store.manifest, task_of(config)
    for doubt in doubts_of(list(manifest.values())):
        logger.warning("%s: %s", store.path / FILE_NAME, doubt)
    known = label_rows(
        (manifest[video_id] for video_id in store.ids if video_id in manifest),
        media=store.media_hashes(),
        manifest=store.path / FILE_NAME,
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
        pages=pages,
        memory_bytes=memory_bytes,
    )
    where = "are in memory" if clips.is_resident else "are more than `memory`, and read as needed"
    logger.info("clips: %d, whose %.2f GB %s", len(clips), clips.num_bytes / 1e9, where)
    names = tuple(group_names(known.rows))
    data = Labelled(clips, known.labels, known.groups, known.classes, names)
    has_groups = any(row.group for row in known.rows)
    return LoadedVideos(data, has_groups, unlabelled, missing)


def make_splits(
    store: Store, data: Labelled, *, folds: int | None, config: TrainConfig
) -> list[Split]:
    """Return the folds, or the one split that the manifest says.

    Raises:
        ContractError: the manifest's split parts what is tied, or has no train or test videos.
    """
    labels, groups = data.labels, data.groups
    inner = {"inner_folds": config.inner_folds, "seed": config.split_seed}
    if folds is not None:
        return make_folds(labels, groups, num_folds=folds, **inner)
    rows = [store.manifest[video_id] for video_id in data.clips.video_ids]
    said = [row.split for row in rows]
    if unused := said.count(""):
        logger.warning("%d labelled videos have no split and are used nowhere", unused)
    split = split_by_manifest(said, labels, groups, **inner)
    sides = [side_of(name) for name in said]
    if parts_a_set(groups, sides):  # else hashes of all files need not be read
        refuse_leaks(rows, sides, media=store.media_hashes())
    return [split]
