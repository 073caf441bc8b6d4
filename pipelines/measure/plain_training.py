"""What training is measured against: the loop that one writes first.

A map-style `Dataset` that reads through h5py, a `DataLoader`, and for soft attention an `LSTMCell`
at every step. Nothing here is used to train.
"""

from __future__ import annotations

from collections.abc import Callable

import h5py
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from features_store.store import Store
from train.data.batch import Batch
from train.data.clips import Clips


class PlainClips(Dataset[tuple[list[Tensor], Tensor]]):
    """Clips one at a time, each padded to T, with a mask; files stay open."""

    def __init__(self, clips: Clips) -> None:
        self._clips, self._store = clips, clips.store
        self._files: dict[str, h5py.File] = {}

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, position: int) -> tuple[list[Tensor], Tensor]:
        """Return the arrays of a clip and its mask."""
        clip, num_steps = self._clips.clips[position], self._clips.windows.num_steps
        video_id = self._clips.video_ids[clip.video]
        file = self._file(self._store, self._store.shard_of(video_id))
        offset = self._store.video(video_id).offset
        found = []
        for array in self._clips.arrays:
            scales = file[array.scales_path][:] if array.scales_shape is not None else None
            first, last = int(clip.rows.min()), int(clip.rows.max())
            span = array.encoding.decode(
                file[array.path][offset + first : offset + last + 1], scales
            )
            rows = span[clip.rows - first].astype(np.float32)
            padding = ((0, num_steps - len(rows)), *((0, 0) for _ in rows.shape[1:]))
            found.append(torch.from_numpy(np.pad(rows, padding)))
        return found, torch.arange(num_steps) < len(clip.rows)

    def batch(self, arrays: list[Tensor], mask: Tensor) -> Batch:
        """Return what a `DataLoader` has collated as heads take it."""
        diffs = arrays.pop() if self._store.header.has_diffs else None
        return Batch(dict(zip(self._clips.layers, arrays, strict=True)), diffs, mask)

    def _file(self, store: Store, name: str) -> h5py.File:
        if name not in self._files:
            import hdf5plugin  # noqa: F401 -- registers zstd

            self._files[name] = h5py.File(store.path / "shards" / name, "r", locking=False)
        return self._files[name]


class PlainSoftAttention(nn.Module):
    """Sharma et al. 2015 as one would write it first: location attention, an `LSTMCell` a layer."""

    def __init__(
        self, num_cells: int, dim: int, *, hidden: int, num_layers: int, num_classes: int
    ) -> None:
        super().__init__()
        sizes = [dim, *[hidden] * (num_layers - 1)]
        self.cells = nn.ModuleList(nn.LSTMCell(size, hidden) for size in sizes)
        self.attend = nn.Linear(hidden, num_cells, bias=False)
        self.to_hidden = nn.Linear(dim, num_layers * hidden)
        self.to_cell_state = nn.Linear(dim, num_layers * hidden)
        self.output = nn.Sequential(
            nn.Dropout(0.5), nn.Linear(hidden, hidden), nn.Tanh(), nn.Dropout(0.5),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip

    def forward(
        self, cubes: Float[Tensor, "b t k k d"], mask: Tensor
    ) -> Float[Tensor, "b t classes"]:
        """Return the logits of every step."""
        cells = cubes.flatten(2, 3)
        valid = mask[..., None].float()
        mean = (cells.mean(2) * valid).sum(1) / valid.sum(1)
        hidden = list(self.to_hidden(mean).tanh().chunk(len(self.cells), 1))
        states = list(self.to_cell_state(mean).tanh().chunk(len(self.cells), 1))
        logits = []
        for t in range(cells.shape[1]):
            weights = self.attend(hidden[-1]).softmax(-1)
            inputs = (weights[..., None] * cells[:, t]).sum(1)
            for i, cell in enumerate(self.cells):
                hidden[i], states[i] = cell(inputs, (hidden[i], states[i]))
                inputs = hidden[i]
            logits.append(self.output(inputs))
        return torch.stack(logits, 1)


def plain_steps(
    dataset: PlainClips,
    loss_of: Callable[[Batch], Tensor],
    parameters: list[nn.Parameter],
    *,
    batch_size: int,
    device: torch.device,
) -> Callable[[], int]:
    """Return what does a training step and returns its number of clips."""
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True)
    optimiser = torch.optim.Adam(parameters)
    batches = iter(loader)

    def step() -> int:
        nonlocal batches
        try:
            arrays, mask = next(batches)
        except StopIteration:
            batches = iter(loader)
            arrays, mask = next(batches)
        optimiser.zero_grad()
        loss = loss_of(dataset.batch([array.to(device) for array in arrays], mask.to(device)))
        torch.autograd.backward(loss)
        optimiser.step()
        return len(mask)

    return step
