"""The ring of frames in memory that a decode worker and its parent share."""

import mmap
from typing import IO

import numpy as np
from jaxtyping import UInt8

from features_store.format.shared_memory import unlinked_file

_HEADER_BYTES = 64  # the progress counter, alone in its cache line


def create_ring_file(*, num_slots: int, frame_size: tuple[int, int]) -> IO[bytes]:
    """Return a file with room for `num_slots` frames; `MachineError` where there is none."""
    return unlinked_file(_ring_bytes(num_slots, frame_size), what="decoded frames")


def _ring_bytes(num_slots: int, frame_size: tuple[int, int]) -> int:
    height, width = frame_size
    return _HEADER_BYTES + num_slots * height * width * 3


class FrameRing:
    """The mapped ring: `slots` of frames, and a counter that grows while the worker gets on."""

    def __init__(self, descriptor: int, *, num_slots: int, frame_size: tuple[int, int]) -> None:
        memory = mmap.mmap(descriptor, _ring_bytes(num_slots, frame_size))
        self._counter = np.frombuffer(memory, dtype=np.uint64, count=1)
        self.slots: UInt8[np.ndarray, "slots h w 3"] = np.frombuffer(
            memory, dtype=np.uint8, offset=_HEADER_BYTES
        ).reshape(num_slots, *frame_size, 3)

    @property
    def progress(self) -> int:
        """How many steps the worker has made."""
        return int(self._counter[0])

    def advance(self) -> None:
        """Count one step."""
        self._counter[0] += np.uint64(1)

    def copy_frames(self, first: int, *, count: int) -> UInt8[np.ndarray, "n h w 3"]:
        """Return a copy of `count` frames from slot `first` on, around the end of the ring."""
        return self.slots.take(range(first, first + count), axis=0, mode="wrap")
