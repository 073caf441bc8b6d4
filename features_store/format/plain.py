"""Numbers of one dtype, stored as they are read."""

from __future__ import annotations

import numpy as np

from features_store.format.encodings import Encoding, StoredAs


class Plain(Encoding):
    """Numbers of the numpy dtype `name`; also of arrays that are no cubes."""

    @property
    def read(self) -> np.dtype:
        """The dtype."""
        return np.dtype(self.name)

    written = read

    @property
    def stored(self) -> tuple[np.dtype, ...]:
        """The dtype alone."""
        return (self.read,)

    @property
    def largest(self) -> float:
        """The largest finite number of a float dtype."""
        return float(np.finfo(self.read).max)

    def encode(self, rows: np.ndarray, stored_as: StoredAs) -> np.ndarray:
        """Return the rows, cast if they must be; what is too large becomes infinite."""
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(rows, dtype=stored_as.dtype)

    def decode(self, stored: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
        """Return what is stored, itself."""
        return stored

    def holds(self, rows: np.ndarray, stored: np.ndarray) -> bool:
        """Whether no float became, or was, infinite or NaN."""
        return stored.dtype.kind != "f" or all_finite(stored)


def all_finite(block: np.ndarray) -> bool:
    """Whether no float is infinite or NaN; by its bits, since numpy converts every float16."""
    if not block.size:
        return True
    bits = block.view(f"u{block.dtype.itemsize}")
    infinity = np.array(np.inf, block.dtype).view(bits.dtype)
    if bits.max() < infinity:  # all above 0, as they are behind a ReLU
        return True
    # Without its sign bit, a float that is not finite is at least the bits of infinity.
    return bool((bits & ~np.array(-0.0, block.dtype).view(bits.dtype)).max() < infinity)
