"""How cubes are stored, by name; light, for command lines."""

from typing import Literal

Dtype = Literal["float16", "float32", "8bit"]
Compression = Literal["none", "zstd"]
