"""A fitted head beside a store of the features that it was fitted on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features_store.errors import ContractError, UsageError, nearest_name
from features_store.manifest import FILE_NAME, SPLITS, side_of
from features_store.spec import Spec, require_same_spec
from features_store.store import Store
from pipelines.machine.devices import choose_device
from pipelines.training.tails import open_checkpoint
from train.data.clips import Clips
from train.data.kinds import FrameOrder
from train.data.labels import Labels
from train.fitting.checkpoint import Checkpoint
from train.fitting.predicting import predict
from train.fitting.tasks import task_of
from train.heads import Head
from train.protocol.labelled import class_names, encode

logger = logging.getLogger("cubereel")


@contextmanager
def open_fitted(checkpoint: Path, store: Path) -> Iterator[Fitted]:
    """Open a checkpoint and a store.

    Raises:
        ContractError: the store has other features than the head was fitted on.
    """
    head, description = open_checkpoint(checkpoint)
    with Store(store) as opened:
        require_same_spec(
            opened.header.spec, Spec.from_json(description.spec), of=str(store),
            than=f"the store that {checkpoint} was fitted on",
            advice="give a store of the same backbone and options, or fit a head on this one",
        )  # fmt: skip
        for name, shape in description.layers.items():
            layer = opened.header.layer(name)
            if (layer.grid_size, layer.dim) != shape:
                raise ContractError(
                    f"layer {name!r} of {store} has cubes {layer.cube_shape}, the head of "
                    f"{checkpoint} was fitted on K and D of {shape}"
                )
        yield Fitted(head, description, opened)


@dataclass(frozen=True)
class Fitted:
    """A head, what its checkpoint says of it, and an open store."""

    head: Head
    description: Checkpoint
    store: Store

    def videos_to_score(self, split: str | None) -> list[str]:
        """Return the videos of a split that have a label, or the checkpoint's test videos.

        Raises:
            UsageError: the manifest says no such split.
            ContractError: the store has none of them.
        """
        store, test_ids = self.store, self.description.test_ids
        if split is None:
            wanted = [video_id for video_id in test_ids if video_id in store]
        else:
            wanted = self._labelled_videos_of(split)
        if not wanted:
            raise ContractError(
                f"{store.path} has no video of "
                + (
                    f"the split {split!r} that has a label"
                    if split
                    else "the test videos of this checkpoint"
                )
            )
        if others := len(set(wanted) - set(test_ids)):
            logger.warning(
                "%d of these %d videos are no test videos of the checkpoint: its head may have "
                "been fitted on them",
                others, len(wanted),
            )  # fmt: skip
        return wanted

    def _labelled_videos_of(self, split: str) -> list[str]:
        """Return the videos of a split that have a label; log how many have none."""
        manifest = self.store.manifest
        known = {*SPLITS, *(row.split for row in manifest.values())} - {""}
        if split not in known:
            raise UsageError(
                f"{self.store.path} has no split {split!r}: {nearest_name(split, sorted(known))}"
            )
        rows = [manifest[i] for i in self.store.ids if i in manifest]
        of_split = [row for row in rows if side_of(row.split) == side_of(split)]
        wanted = [row.video_id for row in of_split if row.label]
        if unlabelled := len(of_split) - len(wanted):
            logger.warning(
                "%d videos of the split %r have no label and are left out", unlabelled, split
            )
        return wanted

    def labels_of(self, video_ids: Sequence[str]) -> Labels:
        """Return the labels of the store's manifest in the classes that the head was fitted on.

        Raises:
            ContractError: a video has no label, or one that the head does not know.
        """
        task, classes = task_of(self.description.config), self.description.classes
        path, manifest, names = self.store.path, self.store.manifest, []
        for video_id in video_ids:
            row = manifest.get(video_id)
            if row is None or not row.label:
                raise ContractError(f"video {video_id!r} in {path} has no label to score against")
            names.append(class_names(row, task=task, manifest=path / FILE_NAME))
        unknown = sorted({name for said in names for name in said} - set(classes))
        if unknown:
            raise ContractError(
                f"label {unknown[0]!r} in {path} is none that the head was fitted on: "
                f"{', '.join(classes)}"
            )
        return encode(names, classes, task=task)

    def clips_of(
        self, video_ids: Sequence[str], *, device: str, frame_order: FrameOrder = "forward"
    ) -> Clips:
        """Return the clips of videos, cut as those that the head was fitted on."""
        return Clips(
            self.store,
            video_ids,
            windows=self.description.config.window_plan,
            layers=list(self.description.layers),
            view=self.description.config.view,
            frame_order=frame_order,
            device=choose_device(device),
        )

    def probabilities(
        self, video_ids: Sequence[str], *, device: str, frame_order: FrameOrder = "forward"
    ) -> np.ndarray:
        """Return the class probabilities (n, classes) of videos, in their order."""
        clips = self.clips_of(video_ids, device=device, frame_order=frame_order)
        videos = np.arange(len(video_ids))
        return predict(self.head.to(clips.device), clips, videos, self.description.config)
