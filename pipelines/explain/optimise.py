"""`cubereel optimise-attention`: would a head be right if it looked elsewhere?

Of a video, or of all test videos that the head gets wrong. See `train.attention.optimise`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from features_store.errors import UsageError, nearest_name
from pipelines.explain.drawing import Drawing
from pipelines.explain.explain import subtitle_of
from pipelines.explain.frames import ClipFrames, path_of
from pipelines.explain.maps import DrawnMap
from pipelines.explain.options import OptimiseOptions
from pipelines.explain.picture_file import check_picture, write_picture
from pipelines.explain.scale import scaled
from pipelines.training.fitted import Fitted, open_fitted
from train.attention.optimise import (
    Attended,
    mean_entropy,
    mean_total_variation,
    optimise_attention,
    require_attention,
)
from train.data.clips import Clips
from train.fitting.checkpoint import Checkpoint
from train.fitting.losses import clip_probabilities
from train.heads import Head
from train.scores.metrics import aggregate

ATTENTIONS = ("own", "random", "optimised")


@dataclass(frozen=True)
class Verdict:
    """What a head says of a video under one attention; means over its clips.

    Attributes:
        label_prob: of the label that the attention was optimised for, as `log_prob`.
        log_prob: Σ_t log ŷ_{t,y*} of a clip.
        entropy, total_variation: of the weights in a frame.
    """

    prediction: str
    label_prob: float
    log_prob: float
    entropy: float
    total_variation: float


@dataclass(frozen=True)
class OptimisedVideo:
    """A video under the head's own attention, a random one, and the one optimised for `label`."""

    video_id: str
    label: str
    own: Verdict
    random: Verdict
    optimised: Verdict
    path: str | None = None


@dataclass(frozen=True)
class MisclassifiedVideos:
    """All test videos that a head gets wrong, and how many it gets right under other attention."""

    num_videos: int
    videos: list[OptimisedVideo]
    num_flipped: int
    num_flipped_by_random: int


def optimise_video(
    checkpoint: Path, store: Path, video: str, options: OptimiseOptions
) -> OptimisedVideo:
    """Optimise the attention of a video's clips; draw that of the first one if `out` is given.

    What is drawn: frames, own attention, random attention, optimised attention.

    Raises:
        UsageError: the head has no attention or several labels, no label is known, or the head does
            not know it.
        ContractError: the store has other features, or the video is not where it was.
    """
    if (out := options.out) is not None:
        check_picture(out)
    with _open(checkpoint, store) as fitted:
        if out is not None:
            path_of(fitted.store, video, options.root)
        labels = np.array([_class_of(fitted, video, options.label)])
        clips = fitted.clips_of([video], device=options.device)
        (result,), first = optimise_videos(fitted, clips, labels, seed=options.seed)
        if out is None:
            return result
        description, rows = fitted.description, clips.clips[0].rows
        view = description.config.view
        frames = ClipFrames(fitted.store, video, rows, root=options.root, view=view)
        title = f"Where would the head have to look to say {result.label}?"
        subtitle = subtitle_of(description, video, frames.times, len(clips))
        maps = _drawn(result, first, fitted.head)
    write_picture(out, Drawing(title, subtitle, frames, maps))
    return replace(result, path=str(out))


def optimise_misclassified(
    checkpoint: Path, store: Path, options: OptimiseOptions
) -> MisclassifiedVideos:
    """Optimise the attention of all test videos (or those of a split) that a head gets wrong.

    Raises:
        UsageError: the head has no attention or several labels.
        ContractError: as for `pipelines.training.evaluate.evaluate`.
    """
    with _open(checkpoint, store) as fitted:
        wanted = fitted.videos_to_score(options.split)
        labels = fitted.labels_of(wanted)
        probs = fitted.probabilities(wanted, device=options.device)
        wrong = np.flatnonzero(probs.argmax(1) != labels)
        clips = fitted.clips_of([wanted[i] for i in wrong], device=options.device)
        videos, _ = optimise_videos(fitted, clips, labels[wrong], seed=options.seed)
    return MisclassifiedVideos(
        num_videos=len(wanted),
        videos=videos,
        num_flipped=sum(v.optimised.prediction == v.label for v in videos),
        num_flipped_by_random=sum(v.random.prediction == v.label for v in videos),
    )


def optimise_videos(
    fitted: Fitted, clips: Clips, labels: np.ndarray, *, seed: int
) -> tuple[list[OptimisedVideo], dict[str, np.ndarray]]:
    """Return every video's verdicts, and the attentions (T, K, K) of the first clip by name."""
    head, description = fitted.head.to(clips.device), fitted.description
    config, positions = description.config, np.arange(len(clips))
    videos = clips.videos_of(positions)
    measured: dict[str, list[np.ndarray]] = {name: [] for name in ATTENTIONS}
    first: dict[str, np.ndarray] = {}
    for chosen, batch in clips.batches(positions, batch_size=config.batch_size):
        targets = torch.from_numpy(labels[videos[chosen]]).to(clips.device)
        found = optimise_attention(head, batch, targets, seed=seed)
        for name in ATTENTIONS:
            attended: Attended = getattr(found, name)
            measured[name].append(_measure(attended, batch.mask, config.last_n))
            if name not in first:
                num_frames = len(clips.clips[0].rows)
                first[name] = attended.attention[0, :num_frames].cpu().numpy()
    if not first:
        return [], first
    verdicts = [
        _verdicts(np.concatenate(measured[name]), videos, labels, description)
        for name in ATTENTIONS
    ]
    of_videos = zip(clips.video_ids, labels, zip(*verdicts, strict=True), strict=True)
    return [
        OptimisedVideo(video_id, description.classes[label], *of_video)
        for video_id, label, of_video in of_videos
    ], first


def _drawn(result: OptimisedVideo, first: dict[str, np.ndarray], head: Head) -> list[DrawnMap]:
    """Return the attentions of a clip, with what the head says under each."""
    drawn = []
    for name in ATTENTIONS:
        said: Verdict = getattr(result, name)
        words = (
            f"{name} attention, under which it says {said.prediction} "
            f"(probability of {result.label} {said.label_prob:.2f})"
        )
        drawn.append(DrawnMap(name, words, scaled(first[name], head.meaning_of("spatial"))))
    return drawn


def _measure(attended: Attended, mask: torch.Tensor, last_n: int | None) -> np.ndarray:
    """Return log-probability, entropy, total variation, then class probabilities: (b, 3 + C)."""
    measures = [
        attended.log_prob,
        mean_entropy(attended.attention, mask),
        mean_total_variation(attended.attention, mask),
    ]
    probs = clip_probabilities(attended.logits, mask, last_n=last_n)
    return torch.cat([torch.stack(measures, dim=1), probs], dim=1).double().cpu().numpy()


def _verdicts(
    measured: np.ndarray, videos: np.ndarray, labels: np.ndarray, description: Checkpoint
) -> list[Verdict]:
    """Return a verdict for each video from what was measured of the clips."""
    _, means = aggregate(measured[:, :3], videos, how="mean")
    _, probs = aggregate(measured[:, 3:], videos, how=description.config.aggregate)
    return [
        Verdict(description.classes[row.argmax()], float(row[label]), *map(float, of_video))
        for row, label, of_video in zip(probs, labels, means, strict=True)
    ]


@contextmanager
def _open(checkpoint: Path, store: Path) -> Iterator[Fitted]:
    """Open a head and a store, as `open_fitted`.

    Raises:
        UsageError: the head has no attention, or no one label to be right about.
    """
    with open_fitted(checkpoint, store) as fitted:
        if fitted.description.config.multi_label:
            raise UsageError(
                f"head {fitted.description.head!r} was fitted with `multi_label`, and attention is "
                "optimised for the one correct label of a video; take a head that was fitted "
                "without"
            )
        require_attention(fitted.head)
        yield fitted


def _class_of(fitted: Fitted, video: str, label: str | None) -> int:
    classes = fitted.description.classes
    if label is None:
        row = fitted.store.manifest.get(video)
        if row is None or not row.label:
            raise UsageError(
                f"the manifest of {fitted.store.path} has no label for {video!r}; say `label`"
            )
        return int(fitted.labels_of([video])[0])
    if label not in classes:
        known = nearest_name(label, list(classes))
        raise UsageError(f"the head knows no class {label!r}; {known}")
    return classes.index(label)
