"""`cubereel eval` and `cubereel predict`: a checkpoint on stored videos, or on new ones."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from features_store.errors import DecodeError, UsageError
from features_store.labels import split_label
from features_store.spec import Spec, require_same_spec
from features_store.store import Store
from pipelines.extraction.extract import extract
from pipelines.extraction.options import ExtractionOptions
from pipelines.machine.devices import decoder_of
from pipelines.training.fitted import Fitted, open_fitted
from pipelines.training.tails import open_checkpoint
from pipelines.training.verdict import predicted_label
from train.data.kinds import FrameOrder
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
            probs = Fitted(head, description, opened).probabilities(ids, device=device)
    classes, task = description.classes, task_of(description.config)
    predictions = [
        Prediction(
            f"/{video_id}",
            predicted_label(row, classes, task, thresholds=description.thresholds),
            dict(zip(classes, row.tolist(), strict=True)),
        )
        for video_id, row in zip(ids, probs, strict=True)
    ]
    return predictions, report.failed
