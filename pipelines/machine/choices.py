"""What may be asked of computing, in words that a command line knows before torch is imported."""

import re
from typing import Literal

from features_store.errors import UsageError

Compile = Literal["auto", "on", "off"]
AskedPrecision = Literal["fp32", "bf16", "auto"]
_DEVICE = re.compile(r"auto|cpu|(cuda|mps|xpu)(:[0-9]+)?")  # as torch names them


def require_device(name: str) -> str:
    """Return the name of a device, or ``auto``; whether it is here shows when torch is there.

    Raises:
        UsageError: no device is called so.
    """
    if not _DEVICE.fullmatch(name):
        raise UsageError(f"no device {name!r}; give 'cpu', 'cuda', 'cuda:1' or 'auto'")
    return name
