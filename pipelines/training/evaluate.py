"""`cubereel eval` and `cubereel predict`: a checkpoint on stored videos, or on new ones."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features_store.errors import ContractError, DecodeError, UsageError
from features_store.labels import split_label
from features_store.manifest import FILE_NAME
from features_store.spec import Spec, require_same_spec
from features_store.store import Store
from pipelines.extraction.extract import extract
from pipelines.extraction.options import ExtractionOptions
from pipelines.machine.devices import choose_device, decoder_of
from pipelines.training.tails import open_checkpoint
from pipelines.training.verdict import predicted_label
from train.data.clips import Clips
from train.data.kinds import FrameOrder
from train.data.labels import Labels
from train.fitting.checkpoint import Checkpoint
from train.fitting.loop import predict as predict_videos
from train.fitting.tasks import task_of
from train.heads import Head
from train.protocol.labelled import class_names, encode
from train.scores.metrics import Metrics, score

logger = logging.getLogger("cubereel")


def evaluate(
    checkpoint: Path,
    store: Path,
    *,
    split: str | None = None,
    frame_order: FrameOrder = "forward",
    device: str = "auto",
) -> tuple[Metrics, tuple[str, ...]]:
    """Score a checkpoint; return the metrics and the classes in their order.

    Another `frame_order` than that of fitting asks what the head makes of the order of frames.

    Raises:
        ContractError: the store has other features than the head was fitted on, none of the
            videos, or labels that the head does not know.
    """
    head, description = open_checkpoint(checkpoint)
    with Store(store) as opened:
        require_same_spec(opened.header.spec, Spec.from_json(description.spec), store=str(store))
        if opened.revision != description.revision:
            logger.info(
                "the head was fitted on revision %.8s of its store, this is %.8s",
                description.revision, opened.revision,
            )  # fmt: skip
        wanted = videos_to_score(opened, description, split=split)
        labels = stored_labels(opened, description, wanted)
        probs = probabilities(head, description, opened, wanted, device, frame_order=frame_order)
    return score(probs, labels), description.classes


def videos_to_score(store: Store, description: Checkpoint, *, split: str | None) -> list[str]:
    """Return the videos of a split, or the checkpoint's test videos.

    Raises:
        ContractError: the store has none of them.
    """
    manifest = store.manifest
    if split is None:
        wanted = [video_id for video_id in description.test_ids if video_id in store]
    else:
        wanted = [i for i in store.ids if i in manifest and manifest[i].split == split]
    if not wanted:
        raise ContractError(
            f"{store.path} has no video of "
            + (f"the split {split!r}" if split else "the test videos of this checkpoint")
        )
    if others := len(set(wanted) - set(description.test_ids)):
        logger.warning(
            "%d of these %d videos are no test videos of the checkpoint: its head may have been "
            "fitted on them",
            others, len(wanted),
        )  # fmt: skip
    return wanted


def stored_labels(store: Store, description: Checkpoint, video_ids: Sequence[str]) -> Labels:
    """Return the labels of the store's manifest in the classes that the head was fitted on.

    Raises:
        ContractError: a video has no label, or one that the head does not know.
    """
    task, classes, manifest = task_of(description.config), description.classes, store.manifest
    names = []
    for video_id in video_ids:
        row = manifest.get(video_id)
        if row is None or not row.label:
            raise ContractError(f"video {video_id!r} in {store.path} has no label to score against")
        names.append(class_names(row, task=task, manifest=store.path / FILE_NAME))
    unknown = sorted({name for said in names for name in said} - set(classes))
    if unknown:
        raise ContractError(
            f"label {unknown[0]!r} in {store.path} is none that the head was fitted on: "
            f"{', '.join(classes)}"
        )
    return encode(names, classes, task=task)


@dataclass(frozen=True)
class Prediction:
    """What a head says of a video: a label, and every class with its probability."""

    video: str
    prediction: str
    probs: dict[str, float]

    @property
    def predicted_probs(self) -> list[float]:
        """Probabilities of the classes that the prediction names."""
        if self.prediction in self.probs:
            return [self.probs[self.prediction]]
        return [self.probs[name] for name in split_label(self.prediction)]


def predict(
    checkpoint: Path,
    videos: Sequence[Path],
    *,
    weights: Path | None = None,
    device: str = "auto",
) -> tuple[list[Prediction], list[dict[str, str]]]:
    """Extract new videos as the checkpoint's store was and classify them.

    Returns:
        Predictions, and the videos that failed.

    Raises:
        ContractError: the weights are not those of the checkpoint's store.
    """
    head, description = open_checkpoint(checkpoint)
    spec = Spec.from_json(description.spec)
    missing = [path for path in videos if not path.exists()]
    if missing or not videos:
        raise UsageError(f"no video {str(missing[0])!r}" if missing else "give at least one video")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "videos.txt"
        source.write_text("\n".join(str(path.absolute()) for path in videos))
        store = Path(folder) / "store"
        options = ExtractionOptions(
            backbone=spec.backbone, weights=weights, layers=list(description.layers),
            fit=spec.preprocessing.fit, precision=spec.precision,
            decoder=decoder_of(spec.decoder), views=[description.config.view], device=device,
            root=Path("/"), **spec.sampling.options,
        )  # fmt: skip
        report = extract(source, out=store, options=options)
        with Store(store) as opened:
            require_same_spec(spec, opened.header.spec, store=f"the store of {checkpoint}")
            ids = opened.ids
            if not ids:
                failure = report.failed[0]
                raise DecodeError(failure["error"], reason=failure["reason"])
            probs = probabilities(head, description, opened, ids, device)
    classes, task = description.classes, task_of(description.config)
    predictions = [
        Prediction(
            f"/{video_id}",
            predicted_label(row, classes, task),
            dict(zip(classes, row.tolist(), strict=True)),
        )
        for video_id, row in zip(ids, probs, strict=True)
    ]
    return predictions, report.failed


def probabilities(
    head: Head,
    description: Checkpoint,
    store: Store,
    ids: Sequence[str],
    device: str,
    *,
    frame_order: FrameOrder = "forward",
) -> np.ndarray:
    """Return the class probabilities (n, classes) of stored videos, in their order."""
    target = choose_device(device)
    clips = Clips(
        store,
        ids,
        windows=description.config.window_plan,
        layers=list(description.layers),
        view=description.config.view,
        frame_order=frame_order,
        device=target,
    )
    videos = np.arange(len(ids))
    return predict_videos(head.to(target), clips, videos, description.config)
