"""What heads say of videos: probabilities of clips, put together to those of videos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from features_store.errors import ContractError
from train.data.ahead import BatchReader
from train.data.clips import Clips
from train.data.order import cut
from train.fitting.config import TrainConfig
from train.fitting.tasks import task_of
from train.heads import Head
from train.scores.metrics import aggregate


@dataclass(frozen=True)
class Said:
    """What a head says of videos.

    Attributes:
        probs: of the classes, in the order of the videos.
        map_means: of the maps that `Head.reported_maps` names, over all valid frames.
    """

    probs: Float[np.ndarray, "n classes"]
    map_means: dict[str, list[float]]


@dataclass
class FrameMeans:
    """Means over the valid frames of batch after batch."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    num_frames: int = 0

    def add(self, maps: Mapping[str, Tensor], mask: Bool[Tensor, "b t"]) -> None:
        """Count the frames of a batch."""
        self.num_frames += int(mask.sum())
        for name, values in maps.items():
            self.sums[name] = self.sums.get(name, 0) + values[mask].double().sum(0)

    @property
    def means(self) -> dict[str, list[float]]:
        """The mean of each map, as long as the map has values a frame."""
        return {n: (s / self.num_frames).flatten().tolist() for n, s in self.sums.items()}


def predict(
    head: Head, clips: Clips, videos: np.ndarray, config: TrainConfig
) -> Float[np.ndarray, "n classes"]:
    """Return the class probabilities of videos, in their order.

    Raises:
        ContractError: a video has no clip.
    """
    return predict_together([head], clips, videos, config)[0].probs


@torch.inference_mode()
def predict_together(
    heads: Sequence[Head], clips: Clips, videos: np.ndarray, config: TrainConfig
) -> list[Said]:
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
    means = [FrameMeans() for _ in heads]
    order = (positions[part] for part in parts)
    for part, (_, batch) in zip(parts, BatchReader(clips).read(order), strict=True):
        for of_head, head, mean in zip(probs, heads, means, strict=True):
            output = head(batch)
            block = task.clip_probabilities(output.logits, batch.mask, last_n=config.last_n)
            of_head[part] = block.double().cpu().numpy()
            if head.reported_maps:  # counting frames would wait for a GPU
                mean.add({name: output.maps[name] for name in head.reported_maps}, batch.mask)
    return [
        Said(_of_videos(of_head, clips, positions, videos, config), mean.means)
        for of_head, mean in zip(probs, means, strict=True)
    ]


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
