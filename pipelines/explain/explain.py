"""`cubereel explain`: where a head looks, drawn over the frames that the cubes were made from.

The maps come from the cache; the video is decoded again only to have something to draw on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from features_store.labels import split_label
from pipelines.explain.drawing import Drawing
from pipelines.explain.frames import ClipFrames
from pipelines.explain.maps import DrawnMap, draw_maps
from pipelines.explain.picture_file import check_picture, write_picture
from pipelines.training.fitted import Fitted, open_fitted
from pipelines.training.verdict import predicted_label, verdict
from train.fitting.checkpoint import Checkpoint
from train.fitting.tasks import task_of
from train.heads import HeadChoice


@dataclass(frozen=True)
class Explanation:
    """What was drawn: the head's verdict on the clip, and the file.

    Attributes:
        prob: of the likeliest class.
        verdict: the predicted classes with their probabilities, as the picture has it.
        is_right: whether these are the classes of the label; None where there is no label.
        maps: the maps of the head, all of which are in the picture.
    """

    video_id: str
    label: str
    prediction: str
    prob: float
    verdict: str
    is_right: bool | None
    maps: list[str]
    path: str


@dataclass(frozen=True)
class AttendedClip:
    """The first clip of a video: its rows, what the head says of it, and the maps drawn of it."""

    rows: np.ndarray
    num_clips: int
    probs: np.ndarray
    maps: list[DrawnMap]


def explain(
    checkpoint: Path, store: Path, *, video: str, out: Path, root: Path | None = None
) -> Explanation:
    """Draw every map that a head returns of a video's first clip over its frames or under them.

    Args:
        out: ``.mp4`` for a film, ``.png`` for a strip of frames.
        root: where the videos are now, if no longer where they were extracted.

    Raises:
        UsageError: the head returns no map, or the file's ending is neither.
        ContractError: the store has other features, or the video is not where it was.
    """
    check_picture(out)
    with open_fitted(checkpoint, store) as fitted:
        fitted.store.video(video)
        clip = attend(fitted, video)
        description = fitted.description
        view = description.config.view
        frames = ClipFrames(fitted.store, video, clip.rows, root=root, view=view)
        manifest = fitted.store.manifest.get(video)
        label = manifest.label if manifest else ""
    said = (clip.probs, description.classes, task_of(description.config))
    prediction = predicted_label(*said, thresholds=description.thresholds)
    words = verdict(*said, thresholds=description.thresholds)
    title = f"The head says: {words}. {judgement(prediction, label)}"
    subtitle = subtitle_of(description, video, frames.times, clip.num_clips)
    write_picture(out, Drawing(title, subtitle, frames, clip.maps))
    return Explanation(
        video,
        label,
        prediction,
        float(clip.probs.max()),
        words,
        is_right(prediction, label),
        list(dict.fromkeys(drawn.name for drawn in clip.maps)),
        str(out),
    )


@torch.inference_mode()
def attend(fitted: Fitted, video: str) -> AttendedClip:
    """Return what a head says of a video's first clip, and its maps.

    Raises:
        UsageError: the head returns no map.
    """
    clips, config = fitted.clips_of([video], device="cpu"), fitted.description.config
    batch, rows = clips.batch([0]), clips.clips[0].rows
    output = fitted.head(batch)
    probs = task_of(config).clip_probabilities(output.logits, batch.mask, last_n=config.last_n)
    maps = draw_maps(fitted.head, output.maps, len(rows))
    return AttendedClip(rows, len(clips), probs[0].numpy(), maps)


def is_right(prediction: str, label: str) -> bool | None:
    """Return whether the predicted classes are those of a label; None without one."""
    return set(split_label(prediction)) == set(split_label(label)) if label else None


def judgement(prediction: str, label: str) -> str:
    """Return in words whether a prediction is right.

    >>> judgement("run", "run"), judgement("run", "sit")
    ('Right: that is its label.', 'Wrong: it is labelled sit.')
    """
    if not label:
        return "The video has no label."
    true = ", ".join(split_label(label)) or "as none of the classes"
    if is_right(prediction, label):
        return "Right: that is its label."
    has_some = set(split_label(prediction)) & set(split_label(label))
    return f"{'Partly right' if has_some else 'Wrong'}: it is labelled {true}."


def subtitle_of(description: Checkpoint, video: str, times: Sequence[float], num_clips: int) -> str:
    """Return which head looks at which part of a video."""
    head = HeadChoice(description.head, tuple(description.options.items())).label
    which = f"the first of {num_clips} clips: " if num_clips > 1 else ""
    part = f"{len(times)} frames from {times[0]:.2f} to {times[-1]:.2f} s"
    return f"Head {head}, video {video}, {which}{part}"
