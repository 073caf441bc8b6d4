"""float16 to float64, several times as fast as numpy converts where there is no AVX-512."""

from __future__ import annotations

import numpy as np

from features_store.format.plain import all_finite

# A float16 is s eeeee mmmmmmmmmm, a float32 s eeeeeeee mmmmmmmmmm0000000000000. Moved into place,
# the exponent is too small by 127 - 15, also of numbers too small to have a leading one.
_SHIFT = np.int32(13)
_SIGN_AND_REST = np.uint32(0x8FFFE000).view(np.int32)
_SCALE = np.float32(2.0 ** (127 - 15))


def as_float64(values: np.ndarray) -> np.ndarray:
    """Return contiguous floats as float64, in memory of their own; exact.

    >>> as_float64(np.array([1.5, -0.25, np.inf], np.float16)).tolist()
    [1.5, -0.25, inf]
    """
    # Infinity has an exponent of its own, which moving bits does not keep.
    if values.dtype != np.float16 or not all_finite(values):
        return values.astype(np.float64)
    bits = values.view(np.int16).astype(np.int32)
    bits <<= _SHIFT
    bits &= _SIGN_AND_REST
    floats = bits.view(np.float32)
    floats *= _SCALE
    return floats.astype(np.float64)
