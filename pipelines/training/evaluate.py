"""`cubereel eval` and `cubereel predict`: a checkpoint on stored videos, or on new ones."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features_store.errors import UsageError
from features_store.format.records import check_id
from features_store.labels import split_label
from features_store.manifest import ManifestRow, write_manifest
from features_store.paths import VIDEO
from features_store.spec import Spec, require_same_spec
from features_store.store import Store
from pipelines.extraction.extract import extract
from pipelines.extraction.options import ExtractionOptions
from pipelines.machine.devices import decoder_of
from pipelines.training.fitted import Fitted, open_fitted
from pipelines.training.tails import open_checkpoint
from pipelines.training.verdict import predicted_label
from train.data.kinds import FrameOrder
from train.fitting.checkpoint import Checkpoint
from train.fitting.tasks import task_of
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
    with open_fitted(checkpoint, store) as fitted:
        fitted_on, revision = fitted.description.revision, fitted.store.revision
        if revision != fitted_on:
            logger.info(
                "the head was fitted on revision %.8s of its store, this is %.8s",
                fitted_on, revision,
            )  # fmt: skip
        wanted = fitted.videos_to_score(split)
        labels = fitted.labels_of(wanted)
        probs = fitted.probabilities(wanted, device=device, frame_order=frame_order)
    return score(probs, labels), fitted.description.classes


@dataclass(frozen=True)
class Prediction:
    """What a head says of a video: a label, and every class with its probability.

    Attributes:
        video: as it was given.
    """

    video: str
    prediction: str
    probs: dict[str, float]

    @property
    def predicted_probs(self) -> list[float]:
        """Probabilities of the classes that the prediction names."""
        if self.prediction in self.probs:
            return [self.probs[self.prediction]]
        return [self.probs[name] for name in split_label(self.prediction)]

    def likeliest(self, number: int) -> dict[str, float]:
        """Return so many classes with their probabilities, the likeliest first."""
        return dict(sorted(self.probs.items(), key=lambda each: -each[1])[:number])


@dataclass(frozen=True)
class FailedVideo:
    """A video of which nothing can be said, as it was given, and why."""

    video: str
    reason: str
    error: str


def predict(
    checkpoint: Path,
    videos: Sequence[Path],
    *,
    weights: Path | None = None,
    device: str = "auto",
) -> list[Prediction | FailedVideo]:
    """Extract new videos as the checkpoint's store was and classify them.

    Returns:
        What is said of each video, in the order given.

    Raises:
        UsageError: a video is not there, or none is given.
        ContractError: the weights are not those of the checkpoint's store.
    """
    if not videos:
        raise UsageError("give at least one video")
    ids = [_id_of(VIDEO.require(path)) for path in videos]
    head, description = open_checkpoint(checkpoint)
    spec = Spec.from_json(description.spec)
    if spec.backbone.startswith("imported:"):
        raise UsageError(
            f"the features that {checkpoint} was fitted on were imported ({spec.backbone}), so "
            "there is no network to extract new videos with; import theirs, and use 'cubereel eval'"
        )
    with tempfile.TemporaryDirectory() as folder:
        source, store = Path(folder) / "videos.csv", Path(folder) / "store"
        write_manifest(source, [ManifestRow(i, f"/{i}") for i in dict.fromkeys(ids)])
        options = ExtractionOptions(
            backbone=spec.backbone, weights=weights, layers=list(description.layers),
            fit=spec.preprocessing.fit, precision=spec.precision,
            decoder=decoder_of(spec.decoder), views=[description.config.view], device=device,
            root=Path("/"), **spec.sampling.options,
        )  # fmt: skip
        report = extract(source, out=store, options=options)
        with Store(store) as opened:
            require_same_spec(
                opened.header.spec, spec, of="what these videos were extracted to",
                than=f"the store that {checkpoint} was fitted on",
                advice="give `weights` the file that the backbone had in 'cubereel extract'",
            )  # fmt: skip
            stored = opened.ids
            fitted = Fitted(head, description, opened)
            probs = list(fitted.probabilities(stored, device=device)) if stored else []
    probs_of = dict(zip(stored, probs, strict=True))
    failures = {each["video_id"]: each for each in report.failed}
    return [
        _prediction(str(path), probs_of[i], description)
        if i in probs_of
        else FailedVideo(str(path), failures[i]["reason"], failures[i]["error"])
        for path, i in zip(videos, ids, strict=True)
    ]


def _id_of(path: Path) -> str:
    """Return a video's id below the root of all paths; `UsageError` where it can have none."""
    video_id = os.path.abspath(path).lstrip("/")  # noqa: PTH100 (links stay as they were given)
    check_id(video_id)
    return video_id


def _prediction(video: str, probs: np.ndarray, description: Checkpoint) -> Prediction:
    classes, task = description.classes, task_of(description.config)
    label = predicted_label(probs, classes, task, thresholds=description.thresholds)
    return Prediction(video, label, dict(zip(classes, probs.tolist(), strict=True)))
