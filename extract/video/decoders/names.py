"""The names of decoders, known without FFmpeg. A new one is a file here and its name below."""

from typing import Literal

# Part of a spec; imported features say "unknown".
DecoderName = Literal["cpu", "nvdec"]
