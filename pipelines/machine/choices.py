"""What may be asked of computing, in words that a command line knows before torch is imported."""

from typing import Literal

Compile = Literal["auto", "on", "off"]
AskedPrecision = Literal["fp32", "bf16", "auto"]
