"""From a store to batches: clips of many videos, in memory when they fit, else read as needed."""

import copy
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from features_store.errors import UsageError
from features_store.format.layout import DIFF_GRID, cube_path
from features_store.store import Store
from features_store.views import CENTER
from train.data.batch import Batch, InputShape
from train.data.kinds import FrameOrder
from train.data.order import cut
from train.data.pages import SharedPages
from train.data.threads import ReadThreads
from train.data.windows import WindowPlan, reordered

Positions = Sequence[int] | np.ndarray


class Staging:
    """Memory that one batch after the other is gathered into, as float32.

    New memory for each would cost more than what is done with it: the system clears its pages.
    """

    def __init__(self) -> None:
        self._memory: dict[int, Tensor] = {}

    def block(self, number: int, shape: tuple[int, ...]) -> Float[Tensor, "..."]:
        """Return a block of a batch, with whatever was in that memory before."""
        size, memory = math.prod(shape), self._memory.get(number)
        if memory is None or len(memory) < size:
            memory = self._memory[number] = torch.empty(size)
        return memory[:size].view(shape)


@dataclass(frozen=True)
class Clip:
    """One clip: the position of its video in `Clips.video_ids`, and its rows there."""

    video: int
    rows: np.ndarray


class Clips:
    """All clips of some videos of a store.

    Args:
        layers: in the order in which heads are to get them; the last is the top.
        view: of the picture that cubes and differences are of.
        frame_order: of the frames within each clip; a shuffle is another for each clip, and the
            same for the same videos. Frame differences stay with their frame.
        memory_bytes: clips are kept in memory when they all fit into this; by default a third of
            the machine's, or of what is free on a GPU.
        pages: which other processes map too; they are for clips in the memory of the machine.

    Attributes:
        arrays: of the store, that are read: cubes in the order of `layers`, then the differences.
    """

    def __init__(
        self,
        store: Store,
        video_ids: Sequence[str],
        *,
        windows: WindowPlan,
        layers: Sequence[str] = (),
        view: str = CENTER,
        frame_order: FrameOrder = "forward",
        device: torch.device | None = None,
        memory_bytes: int | None = None,
        pages: SharedPages | None = None,
    ) -> None:
        self.store = store
        self.video_ids = list(video_ids)
        self.windows = _fitted(windows, store)
        self.layers = [la.name for la in store.header.layers] if not layers else list(layers)
        if double := next((la for la in self.layers if self.layers.count(la) > 1), None):
            raise UsageError(f"layer {double!r} is asked for twice")
        self.device = device or torch.device("cpu")
        self._threads = ReadThreads()
        rng = np.random.default_rng(0)
        self.clips = [
            Clip(video, reordered(rows, frame_order, rng))
            for video, video_id in enumerate(self.video_ids)
            for rows in self._rows_of(video_id)
        ]
        store.header.require_view(view)
        arrays = {array.path: array for array in store.header.arrays}
        self.arrays = [
            arrays[cube_path(view, store.header.layer(name).name)] for name in self.layers
        ]
        if store.header.has_diffs:
            self.arrays.append(arrays[f"diffs/{view}"])
        limit = device_memory_bytes(self.device) // 3 if memory_bytes is None else memory_bytes
        self._cached: list[Tensor] | None = None
        if self.num_bytes <= limit:
            self._cached = self._read_all(pages)

    def __len__(self) -> int:
        return len(self.clips)

    def _rows_of(self, video_id: str) -> list[np.ndarray]:
        draws = self.store.video(video_id).draws if self.windows.kind == "draws" else ()
        return self.windows.rows(self.store.num_frames_of(video_id), draws)

    @property
    def num_bytes(self) -> int:
        """Size of all clips as they are stored."""
        per_frame = sum(array.row_bytes for array in self.arrays)
        return len(self.clips) * self.windows.num_steps * per_frame

    @property
    def input_shape(self) -> InputShape:
        """What a head must know before it sees a batch."""
        layers = [self.store.header.layer(name) for name in self.layers]
        return InputShape(
            {la.name: (la.grid_size, la.dim) for la in layers},
            diff_grid=DIFF_GRID if self.store.header.has_diffs else None,
        )

    def of_videos(self, videos: Positions) -> np.ndarray:
        """Return the positions of the clips of some videos (positions in `video_ids`)."""
        wanted = np.zeros(len(self.video_ids), bool)
        wanted[list(videos)] = True
        return np.flatnonzero(wanted[[clip.video for clip in self.clips]])

    def batch(
        self,
        positions: Positions,
        *,
        num_steps: int | None = None,
        staging: Staging | None = None,
    ) -> Batch:
        """Return the clips at these positions as float32, padded to one length with a mask.

        Args:
            num_steps: that length; None is that of the longest of them.
            staging: memory to gather them into: what was gathered there before is overwritten.
        """
        mask = self.mask(positions, num_steps=num_steps)
        return self._batch(positions, mask, staging or Staging())

    def _batch(self, positions: Positions, mask: Bool[Tensor, "n t"], staging: Staging) -> Batch:
        length = mask.shape[1]
        if self._cached is not None and self.device.type != "cpu":
            index = torch.as_tensor(np.asarray(positions), device=self.device)
            floats = [block[index, :length].float() for block in self._cached]
        else:
            floats = [
                staging.block(i, (len(positions), length, *array.row_shape))
                for i, array in enumerate(self.arrays)
            ]
            self._gather(floats, positions, length)
            floats = [block.to(self.device) for block in floats]
        diffs = floats.pop() if self.store.header.has_diffs else None
        return Batch(dict(zip(self.layers, floats, strict=True)), diffs, mask)

    def _gather(self, blocks: Sequence[Tensor], positions: Positions, length: int) -> None:
        """Fill a block for each array with the first steps of some clips."""
        if self._cached is None:
            self._read_into([block.numpy() for block in blocks], positions)
            return
        for block, cached in zip(blocks, self._cached, strict=True):
            # Clip by clip: an index would copy all of them first, and convert them then.
            for clip, position in zip(block, positions, strict=True):
                clip.copy_(cached[int(position), :length])

    @property
    def is_resident(self) -> bool:
        """Whether all clips are in memory."""
        return self._cached is not None

    def mask(self, positions: Positions, *, num_steps: int | None = None) -> Bool[Tensor, "n t"]:
        """Return which of so many steps of each clip are frames; None is as many as the longest."""
        lengths = torch.from_numpy(self.lengths[np.asarray(positions)])
        steps = torch.arange(int(lengths.max()) if num_steps is None else num_steps)
        return (steps < lengths[:, None]).to(self.device)

    @cached_property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """How many frames each clip has."""
        return np.array([len(clip.rows) for clip in self.clips], np.int64)

    def of_layers(self, layers: Sequence[str]) -> "Clips":
        """Return these clips with some of their layers, in this order; nothing is read again."""
        chosen = [self.layers.index(name) for name in layers]
        others = range(len(self.layers), len(self.arrays))  # the differences, where there are any
        part = copy.copy(self)
        part.layers = list(layers)
        part.arrays = [self.arrays[i] for i in (*chosen, *others)]
        if self._cached is not None:
            part._cached = [self._cached[i] for i in (*chosen, *others)]
        return part

    def batches(
        self, positions: Positions, *, batch_size: int
    ) -> Iterator[tuple[np.ndarray, Batch]]:
        """Yield the clips in order, a batch at a time, with their positions."""
        for chosen in cut(positions, batch_size):
            yield chosen, self.batch(chosen)

    def videos_of(self, positions: np.ndarray) -> Int[np.ndarray, " n"]:
        """Return the video (position in `video_ids`) of each clip."""
        return np.array([self.clips[p].video for p in positions], np.int64)

    def _read_all(self, pages: SharedPages | None) -> list[Tensor]:
        shapes = [
            (len(self.clips), self.windows.num_steps, *array.row_shape) for array in self.arrays
        ]
        kinds = [(s, a.dtype) for s, a in zip(shapes, self.arrays, strict=True)]
        if pages is None or self.device.type != "cpu":
            blocks = [np.empty(*kind) for kind in kinds]
            self._read_into(blocks, range(len(self.clips)))
        else:
            blocks = pages.blocks(
                kinds, fill=lambda blocks: self._read_into(blocks, range(len(self.clips)))
            )
        return [torch.from_numpy(block).to(self.device) for block in blocks]

    def _read_into(self, blocks: Sequence[np.ndarray], positions: Positions) -> None:
        """Fill one block (n, T, …) for each array; zero where a clip is shorter than T.

        Clips are read side by side: a disk has many heads, and zstd unpacks without Python's lock.
        """

        def read(i: int) -> None:
            clip = self.clips[positions[i]]
            video_id, number = self.video_ids[clip.video], len(clip.rows)
            for array, block in zip(self.arrays, blocks, strict=True):
                block[i, :number] = self.store.take(video_id, array.path, clip.rows)
                block[i, number:] = 0

        self._threads.each(read, len(positions))

    def close(self) -> None:
        """End the threads that read; those of other layers of these clips are the same."""
        self._threads.close()


def _fitted(windows: WindowPlan, store: Store) -> WindowPlan:
    """Return the plan, with as many steps as a draw has frames where clips are draws."""
    if windows.kind != "draws":
        return windows
    shape = store.header.spec.sampling.draws_shape
    if shape is None:
        raise UsageError(
            f"{store.path} holds no draws of frames; extract it with `segments` and `jitter`, or "
            "take other `windows`"
        )
    return replace(windows, num_steps=shape[1])


def device_memory_bytes(device: torch.device) -> int:
    """Return the free memory of a GPU, or the physical memory of this machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
