"""What a head computes of clips before any parameter is in it, computed once for all epochs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from train.data.batch import Batch
from train.data.clips import Clips, Positions, Staging
from train.data.order import cut
from train.heads import Head


def condensed_for(clips: Clips, head: Head, *, batch_size: int) -> Clips:
    """Return clips with what a head condenses of them, or as they are where that is nothing."""
    blocks: list[dict[str, Tensor]] = []
    for positions in cut(range(len(clips)), batch_size):
        block = head.condense_stored(clips.batch(positions, num_steps=clips.windows.num_steps))
        if block is None:
            return clips
        blocks.append(block)
    tensors = {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
    return CondensedClips(clips, tensors, reads_cubes=head.reads_cubes)


class CondensedClips(Clips):
    """Clips with a head's condensed tensors, all in memory; without cubes if it reads none."""

    def __init__(self, clips: Clips, tensors: dict[str, Tensor], *, reads_cubes: bool) -> None:
        self.__dict__ |= clips.__dict__  # the same clips of the same videos
        self._tensors, self._reads_cubes = tensors, reads_cubes

    def _batch(self, positions: Positions, mask: Bool[Tensor, "n t"], staging: Staging) -> Batch:
        cubes = super()._batch(positions, mask, staging) if self._reads_cubes else None
        index = torch.as_tensor(np.asarray(positions), device=self.device)
        chosen = {name: tensor[index] for name, tensor in self._tensors.items()}
        length = mask.shape[1]
        cut_off = {n: t[:, :length] if t.ndim > 2 else t for n, t in chosen.items()}
        return replace(cubes or Batch({}, None, mask), condensed=cut_off)

    @property
    def is_resident(self) -> bool:
        """Whether all that is read of a clip is in memory."""
        return not self._reads_cubes or super().is_resident

    def of_layers(self, layers: Sequence[str]) -> Clips:
        """Raise `ValueError`: what is condensed is of other layers; take them before."""
        raise ValueError(f"condensed clips have no layers, {list(layers)} were asked for")
