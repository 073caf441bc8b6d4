"""What heads say of videos: probabilities of clips, put together to those of videos."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from features_store.errors import ContractError
from train.data.ahead import BatchReader
from train.data.clips import Clips
from train.data.order import cut
from train.fitting.config import TrainConfig
from train.fitting.tasks import task_of
from train.heads import Head
from train.scores.metrics import aggregate


def predict(
    head: Head, clips: Clips, videos: np.ndarray, config: TrainConfig
) -> Float[np.ndarray, "n classes"]:
    """Return the class probabilities of videos, in their order.

    Raises:
        ContractError: a video has no clip.
    """
    return predict_together([head], clips, videos, config)[0]


@torch.inference_mode()
def predict_together(
    heads: Sequence[Head], clips: Clips, videos: np.ndarray, config: TrainConfig
) -> list[Float[np.ndarray, "n classes"]]:
    """Return what each head says of videos; each batch is read once for all of them.

    Raises:
        ContractError: a video has no clip.
    """
    for head in heads:
        head.eval()
    task = task_of(config)
    positions = clips.of_videos(videos)
    # By length: a batch is as long as its longest clip.
    parts = cut(np.argsort(clips.lengths[positions], kind="stable"), config.batch_size)
    probs = np.zeros((len(heads), len(positions), heads[0].num_classes))
    order = (positions[part] for part in parts)
    for part, (_, batch) in zip(parts, BatchReader(clips).read(order), strict=True):
        for of_head, head in zip(probs, heads, strict=True):
            block = task.clip_probabilities(head(batch).logits, batch.mask, last_n=config.last_n)
            of_head[part] = block.double().cpu().numpy()
    return [_of_videos(of_head, clips, positions, videos, config) for of_head in probs]


def _of_videos(
    probs: Float[np.ndarray, "clips classes"],
    clips: Clips,
    positions: np.ndarray,
    videos: np.ndarray,
    config: TrainConfig,
) -> Float[np.ndarray, "n classes"]:
    present, per_video = aggregate(probs, clips.videos_of(positions), how=config.aggregate)
    if missing := sorted(set(map(int, videos)) - set(map(int, present))):
        raise ContractError(
            f"video {clips.video_ids[missing[0]]!r} has no clip to be judged by; "
            f"{len(missing)} of {len(videos)} videos have none"
        )
    of_videos: np.ndarray = per_video[np.searchsorted(present, videos)]
    return of_videos
