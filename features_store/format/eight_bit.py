"""Cubes in one byte a value: a per-channel scale, so that value ≈ byte × scale. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from features_store.format.encodings import Encoding, StoredAs


class EightBit(Encoding):
    """One byte times the scale of its channel, channels before cells."""

    read, written = np.dtype(np.float32), np.dtype(np.float16)
    stored = (np.dtype(np.uint8), np.dtype(np.int8))  # the first without a negative value
    axes = "ndkk"

    def stored_row_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return (D, K, K)."""
        return (row_shape[-1], *row_shape[:-1])

    def scales_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return (D,)."""
        return row_shape[-1:]

    def choose(self, rows: Iterable[np.ndarray], row_shape: tuple[int, ...]) -> StoredAs:
        """Return the scales, and whether bytes have a sign, by the largest and smallest values."""
        largest = np.zeros(row_shape[-1], np.float32)
        has_negative = False
        for block in rows:
            cells = block.astype(np.float32).reshape(-1, row_shape[-1])
            has_negative = has_negative or bool(cells.min() < 0)
            np.maximum(largest, np.abs(cells, out=cells).max(0), out=largest)
        dtype = self.stored[has_negative]
        return StoredAs(dtype, channel_scales(largest, dtype))

    def encode(self, rows: np.ndarray, stored_as: StoredAs) -> np.ndarray:
        """Return bytes (n, D, K, K)."""
        assert stored_as.scales is not None
        return quantise(rows.astype(np.float32), stored_as.scales, stored_as.dtype)

    def decode(self, stored: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
        """Return float32 cubes of their own memory."""
        assert scales is not None
        return dequantise(stored, scales)


def channel_scales(largest: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the float32 scale (D,) of channels whose largest absolute values are given.

    >>> channel_scales(np.array([510.0, 0.0]), np.dtype(np.uint8)).tolist()
    [2.0, 1.0]
    """
    scales = largest.astype(np.float32) / np.iinfo(dtype).max
    # A channel without a value, or with none that a division survives, is stored as zeros.
    return np.where(scales > np.finfo(np.float32).tiny, scales, np.float32(1))


def quantise(rows: np.ndarray, scales: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return bytes (n, D, K, K) of cubes (n, K, K, D).

    Channels come before cells because most channels are zero over whole cubes, which zstd then
    takes as runs.
    """
    values = np.rint(rows / scales)
    limits = np.iinfo(dtype)
    return np.ascontiguousarray(
        np.moveaxis(values.clip(limits.min, limits.max).astype(dtype), 3, 1)
    )


def dequantise(stored: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return float32 cubes (n, K, K, D) of bytes (n, D, K, K)."""
    num_frames, dim, grid_size, _ = stored.shape
    rows = np.empty((num_frames, grid_size, grid_size, dim), np.float32)
    # Two passes over contiguous memory take less time than one that strides and multiplies.
    cells = rows.reshape(num_frames, grid_size * grid_size, dim)
    cells[...] = stored.reshape(num_frames, dim, grid_size**2).transpose(0, 2, 1)
    rows *= scales
    return rows
