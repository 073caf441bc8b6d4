"""`cubereel explain`: where a head looks, drawn over the frames that the cubes were made from.

The attention comes from the cache; the video is decoded again only to have something to draw on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from extract.video.reader import FrameReader
from extract.video.settings import ReaderSettings
from features_store.errors import ContractError, UsageError
from features_store.format.records import VideoRecord
from features_store.spec import Spec
from features_store.store import Store
from features_store.views import FLIP, Rectangle, rectangle_of
from pipelines.explain.overlay import AttendedFrame, check_picture, write_picture
from pipelines.extraction.plan import is_same_media
from pipelines.training.fitted import Fitted, open_fitted
from pipelines.training.verdict import predicted_label, verdict
from train.fitting.tasks import task_of

MAX_LINES = 360


@dataclass(frozen=True)
class Explanation:
    """What was drawn: the head's verdict on the clip, and the file.

    Attributes:
        prob: of the likeliest class.
        verdict: the predicted classes with their probabilities, as the picture has it.
    """

    video_id: str
    label: str
    prediction: str
    prob: float
    verdict: str
    path: str


def explain(
    checkpoint: Path, store: Path, *, video: str, out: Path, root: Path | None = None
) -> Explanation:
    """Draw the attention over the frames of a video's first clip.

    Args:
        out: ``.mp4`` for a film, ``.png`` for a strip of frames.
        root: where the videos are now, if no longer where they were extracted.

    Raises:
        UsageError: the head has no attention, or the file's ending is neither.
        ContractError: the store has other features, or the video is not where it was.
    """
    check_picture(out)
    with open_fitted(checkpoint, store) as fitted:
        path = path_of(fitted.store, video, root)
        rows, attention, probs = attend(fitted, video)
        description = fitted.description
        view = description.config.view
        frames = read_attended(path, fitted.store, video, rows, attention, view=view)
        manifest = fitted.store.manifest.get(video)
    said = (probs, description.classes, task_of(description.config))
    result = Explanation(
        video,
        manifest.label if manifest else "",
        predicted_label(*said, thresholds=description.thresholds),
        float(probs.max()),
        verdict(*said, thresholds=description.thresholds),
        str(out),
    )
    write_picture(out, {"attention": frames}, title=f"{video}: {result.verdict}")
    return result


def path_of(store: Store, video: str, root: Path | None) -> Path:
    """Return where a stored video's file is.

    Raises:
        ContractError: it is not there.
    """
    source = store.header.source(store.video(video).source)
    manifest = store.manifest.get(video)
    path = (root or Path(source.root)) / (manifest.path if manifest else video)
    if not path.is_file():
        raise ContractError(
            f"{path} is not there; say with `root` where the videos of {store.path} are now"
        )
    return path


def read_attended(
    path: Path, store: Store, video: str, rows: np.ndarray, attention: np.ndarray, *, view: str
) -> list[AttendedFrame]:
    """Return the pictures of the kept frames at `rows` with their attention (T, K, K).

    A mirrored view is drawn on mirrored pictures.

    Raises:
        ContractError: the file is not the one that was extracted.
    """
    record = store.video(video)
    pictures = read_pictures(path, record, store.header.spec, rows)
    stored = store.read(video, "pts_seconds")[rows]
    times = [pts for pts, _ in pictures]
    if not is_same_media(path, record, rehash=False) or stored.tolist() != times:
        raise ContractError(f"{path} is not the file that was extracted; it was replaced")
    return [
        AttendedFrame(
            picture[:, ::-1] if view == FLIP else picture,
            weights,
            pts,
            crop_in(picture, record, view=view),
        )
        for (pts, picture), weights in zip(pictures, attention, strict=True)
    ]


@torch.inference_mode()
def attend(fitted: Fitted, video: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of a video's first clip, their attention (T, K, K) and the clip's probs.

    Raises:
        UsageError: the head returns no spatial map.
    """
    clips, config = fitted.clips_of([video], device="cpu"), fitted.description.config
    batch = clips.batch([0])
    output = fitted.head(batch)
    if "spatial" not in output.maps:
        raise UsageError(
            f"head {fitted.description.head!r} does not say where it looks; 'soft-attention' does"
        )
    rows = clips.clips[0].rows
    probs = task_of(config).clip_probabilities(output.logits, batch.mask, last_n=config.last_n)
    return rows, output.maps["spatial"][0, : len(rows)].numpy(), probs[0].numpy()


def read_pictures(
    path: Path, record: VideoRecord, spec: Spec, rows: np.ndarray
) -> list[tuple[float, np.ndarray]]:
    """Return time and RGB picture of the kept frames at `rows`, whole and at most 360 lines high.

    Raises:
        ContractError: the file is not the one that was extracted.
    """
    scale = min(1.0, MAX_LINES / record.height)
    height, width = (max(2, round(side * scale / 2) * 2) for side in (record.height, record.width))
    preprocessing = replace(spec.preprocessing, input_size=(height, width), fit="stretch")
    reader = FrameReader(
        path,
        ReaderSettings(preprocessing=preprocessing, sampling=spec.sampling),
        draw_key=record.media_sha256,
        start_seconds=None if np.isnan(record.start_seconds) else record.start_seconds,
        end_seconds=None if np.isnan(record.end_seconds) else record.end_seconds,
    )
    wanted = set(rows.tolist())
    pictures = {}
    for row, frame in enumerate(reader):
        if row in wanted:
            pictures[row] = (frame.pts_seconds, frame.pixels.copy())
        if len(pictures) == len(wanted):
            break
    if len(pictures) < len(wanted):
        raise ContractError(f"{path} has fewer frames than were extracted; it was replaced")
    return [pictures[row] for row in rows.tolist()]


def crop_in(picture: np.ndarray, record: VideoRecord, *, view: str) -> Rectangle:
    """Return what the backbone saw as x, y, width, height in pixels of a scaled picture."""
    x_scale, y_scale = picture.shape[1] / record.width, picture.shape[0] / record.height
    x, y, width, height = rectangle_of(view, record.crop, width=record.width, height=record.height)
    return x * x_scale, y * y_scale, width * x_scale, height * y_scale
