"""Clips reduced to what a head takes from them, so that an epoch reads a fiftieth of the bytes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from train.data.batch import Batch
from train.data.clips import Clips, Positions
from train.heads import Head


def condensed_for(clips: Clips, head: Head, *, batch_size: int) -> Clips:
    """Return clips reduced to what a head takes from them, or as they are if it needs the cubes."""
    blocks = []
    for _, batch in clips.batches(range(len(clips)), batch_size=batch_size):
        block = head.condense(batch)
        if block is None:
            return clips
        blocks.append((block, batch.mask))
    tensors = {name: torch.cat([block[name] for block, _ in blocks]) for name in blocks[0][0]}
    return CondensedClips(clips, tensors, torch.cat([mask for _, mask in blocks]))


class CondensedClips(Clips):
    """Clips of which only a head's condensed tensors are kept, all in memory."""

    def __init__(self, clips: Clips, tensors: dict[str, Tensor], mask: Tensor) -> None:
        self.__dict__ |= clips.__dict__  # the same clips of the same videos
        self._tensors, self._mask = tensors, mask

    def batch(self, positions: Positions) -> Batch:
        """Return a batch without cubes."""
        index = torch.as_tensor(np.asarray(positions), device=self.device)
        chosen = {name: tensor[index] for name, tensor in self._tensors.items()}
        return Batch({}, None, self._mask[index], chosen)

    def of_layers(self, layers: Sequence[str]) -> Clips:
        """Raise `ValueError`: the layers are gone; take them before the clips are condensed."""
        raise ValueError(f"condensed clips have no layers, {list(layers)} were asked for")
