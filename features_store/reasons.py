"""Why a video may fail: the closed set of reasons that the ledger knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Reason:
    """One class of failure.

    Attributes:
        meaning: what was found, as in FORMAT.md.
        fault: ``file`` fails again until the file is another one; ``machine`` may pass.
        breaks_off: the frames before it are sound, so that they may be kept as a partial video.
    """

    meaning: str
    fault: Literal["file", "machine"] = "file"
    breaks_off: bool = False


REASONS = {
    "not a video": Reason("no container that FFmpeg knows, or one still picture"),
    "no video stream": Reason("sound, subtitles or cover pictures alone"),
    "unknown codec": Reason("FFmpeg, or the GPU, has no decoder for the video stream"),
    "no frames": Reason("the video stream is empty"),
    "no timestamps": Reason("neither frames nor header say when a frame is shown"),
    "times go back": Reason(
        "a frame is shown before the one that it follows, as where recordings are joined",
        breaks_off=True,
    ),
    "truncated": Reason("it ends before its header says, or within a frame", breaks_off=True),
    "corrupt": Reason("a packet is damaged, or the decoder failed on it", breaks_off=True),
    "size changed": Reason("frames of another size follow"),
    "size limit": Reason("a frame has a side of more than 16384 pixels"),
    "empty span": Reason("no frame lies in the time span that was asked for"),
    "unreadable": Reason("missing, no regular file, no permission, a failing disk", "machine"),
    "decoder crashed": Reason(
        "the process that decoded it died, or a GPU's decoder could not begin", "machine"
    ),
    "decoder hung": Reason("its decoder made no progress for --timeout seconds", "machine"),
    "out of memory": Reason("its decoder asked for more memory than it may have", "machine"),
}
