"""`cubereel optimise-attention`: would a head be right if it looked elsewhere?

Of a video, or of all test videos that the head gets wrong. See `train.attention.optimise`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from features_store.errors import UsageError, nearest_name
from features_store.spec import Spec, require_same_spec
from features_store.store import Store
from pipelines.explain.explain import path_of, read_attended
from pipelines.explain.overlay import check_picture, write_picture
from pipelines.machine.devices import choose_device
from pipelines.training.evaluate import probabilities, stored_labels, videos_to_score
from pipelines.training.tails import open_checkpoint
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
    checkpoint: Path,
    store: Path,
    *,
    video: str,
    label: str | None = None,
    out: Path | None = None,
    root: Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> OptimisedVideo:
    """Optimise the attention of a video's clips; draw that of the first one if `out` is given.

    Args:
        label: the correct one, by default what the store's manifest says.
        out: ``.png`` or ``.mp4``: frames, own attention, random attention, optimised attention.
        root: where the videos are now, if no longer where they were extracted.

    Raises:
        UsageError: the head has no attention or several labels, no label is known, or the head does
            not know it.
        ContractError: the store has other features, or the video is not where it was.
    """
    if out is not None:
        check_picture(out)
    head, description = open_checkpoint(checkpoint)
    _require_single_label(description)
    require_attention(head)
    with Store(store) as opened:
        require_same_spec(opened.header.spec, Spec.from_json(description.spec), store=str(store))
        path = None if out is None else path_of(opened, video, root)
        labels = np.array([_class_of(opened, description, video, label)])
        clips = _clips(opened, description, [video], device)
        (result,), first = optimise_videos(head, description, clips, labels, seed=seed)
        if out is None or path is None:
            return result
        frames = read_attended(
            path, opened, video, clips.clips[0].rows, first["own"], view=description.config.view
        )
    rows = {
        f"{name}: {getattr(result, name).prediction}": [
            replace(frame, weights=weights)
            for frame, weights in zip(frames, first[name], strict=True)
        ]
        for name in ATTENTIONS
    }
    write_picture(out, rows, title=f"{video}: attention optimised for {result.label}")
    return replace(result, path=str(out))


def optimise_misclassified(
    checkpoint: Path,
    store: Path,
    *,
    split: str | None = None,
    seed: int = 0,
    device: str = "auto",
) -> MisclassifiedVideos:
    """Optimise the attention of all test videos (or those of a split) that a head gets wrong.

    Raises:
        UsageError: the head has no attention or several labels.
        ContractError: as for `pipelines.training.evaluate.evaluate`.
    """
    head, description = open_checkpoint(checkpoint)
    _require_single_label(description)
    require_attention(head)
    with Store(store) as opened:
        require_same_spec(opened.header.spec, Spec.from_json(description.spec), store=str(store))
        wanted = videos_to_score(opened, description, split=split)
        labels = stored_labels(opened, description, wanted)
        probs = probabilities(head, description, opened, wanted, device)
        wrong = np.flatnonzero(probs.argmax(1) != labels)
        clips = _clips(opened, description, [wanted[i] for i in wrong], device)
        videos, _ = optimise_videos(head, description, clips, labels[wrong], seed=seed)
    return MisclassifiedVideos(
        num_videos=len(wanted),
        videos=videos,
        num_flipped=sum(v.optimised.prediction == v.label for v in videos),
        num_flipped_by_random=sum(v.random.prediction == v.label for v in videos),
    )


def optimise_videos(
    head: Head, description: Checkpoint, clips: Clips, labels: np.ndarray, *, seed: int
) -> tuple[list[OptimisedVideo], dict[str, np.ndarray]]:
    """Return every video's verdicts, and the attentions (T, K, K) of the first clip by name.

    Raises:
        UsageError: the head has no attention.
    """
    head.to(clips.device)
    config, positions = description.config, np.arange(len(clips))
    of_clips = labels[clips.videos_of(positions)]
    measured: dict[str, list[np.ndarray]] = {name: [] for name in ATTENTIONS}
    first: dict[str, np.ndarray] = {}
    for chosen, batch in clips.batches(positions, batch_size=config.batch_size):
        targets = torch.from_numpy(of_clips[chosen]).to(clips.device)
        found = optimise_attention(head, batch, targets, seed=seed)
        for name in ATTENTIONS:
            attended: Attended = getattr(found, name)
            measured[name].append(_measure(attended, batch.mask, config.last_n))
            if name not in first:
                num_frames = len(clips.clips[0].rows)
                first[name] = attended.attention[0, :num_frames].cpu().numpy()
    if not measured["own"]:
        return [], first
    videos = clips.videos_of(positions)
    verdicts = [
        _verdicts(np.concatenate(measured[name]), videos, labels, description)
        for name in ATTENTIONS
    ]
    names = [description.classes[label] for label in labels]
    return [
        OptimisedVideo(video_id, name, *of_video)
        for video_id, name, of_video in zip(
            clips.video_ids, names, zip(*verdicts, strict=True), strict=True
        )
    ], first


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


def _require_single_label(description: Checkpoint) -> None:
    """Raise `UsageError` for a head that has no one label to be right about."""
    if description.config.multi_label:
        raise UsageError(
            f"head {description.head!r} was fitted with `multi_label`, and attention is optimised "
            "for the one correct label of a video; take a head that was fitted without"
        )


def _class_of(store: Store, description: Checkpoint, video: str, label: str | None) -> int:
    if label is None:
        row = store.manifest.get(video)
        if row is None or not row.label:
            raise UsageError(
                f"the manifest of {store.path} has no label for {video!r}; say `label`"
            )
        return int(stored_labels(store, description, [video])[0])
    if label not in description.classes:
        known = nearest_name(label, list(description.classes))
        raise UsageError(f"the head knows no class {label!r}; {known}")
    return description.classes.index(label)


def _clips(store: Store, description: Checkpoint, ids: Sequence[str], device: str) -> Clips:
    return Clips(
        store,
        ids,
        windows=description.config.window_plan,
        layers=list(description.layers),
        view=description.config.view,
        device=choose_device(device),
    )
