"""How the learning rate goes on during a fit: as a cosine, constant, or lower on a plateau."""

from __future__ import annotations

import math
from dataclasses import dataclass

from train.data.kinds import ScheduleKind

PLATEAU_EPOCHS, PLATEAU_FACTOR, PLATEAU_GAIN = 3, 0.3, 1e-3


@dataclass
class Schedule:
    """The share of a fit's rate that each step gets.

    `cosine` falls from 1 to 0 over all steps. `plateau` is cut to 0.3 of it whenever the training
    loss of `PLATEAU_EPOCHS` epochs was not a thousandth below the lowest before: the training loss,
    since a fit that is tested has no validation videos.
    """

    kind: ScheduleKind
    num_steps: int
    _num_done: int = 0
    _share: float = 1.0
    _lowest: float = math.inf
    _num_since: int = 0

    def next_share(self) -> float:
        """Return the share of the next step.

        >>> cosine = Schedule("cosine", 4)
        >>> [round(cosine.next_share(), 3) for _ in range(4)]
        [1.0, 0.854, 0.5, 0.146]
        """
        if self.kind == "cosine":
            self._share = (1 + math.cos(math.pi * self._num_done / self.num_steps)) / 2
        self._num_done += 1
        return self._share

    def end_epoch(self, loss: float) -> None:
        """Say what an epoch's mean loss was."""
        if self.kind != "plateau":
            return
        if loss < self._lowest * (1 - PLATEAU_GAIN):
            self._lowest, self._num_since = loss, 0
            return
        self._num_since += 1
        if self._num_since == PLATEAU_EPOCHS:
            self._share, self._num_since = self._share * PLATEAU_FACTOR, 0
