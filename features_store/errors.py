"""Every error that a user can cause or meet, and the exit code that the command line gives it.

CubereelError
├── UsageError        2   a path, a name or an option that does not exist or does not fit
├── ContractError     3   what lies there breaks a promise: wrong weights, no labels, an empty split
│   └── StoreError    3   the state of a store
│       ├── SpecMismatchError    the store was written under another spec
│       ├── BusyError            75  somebody else is writing the store
│       ├── DamageError          bytes are not what was written
│       └── UnsafeStoreError     a shared store that reaches outside itself
├── CoverageError     4   more videos failed than the gate allows
├── DecodeError       4   one video cannot be turned into frames; never stops a run
└── MachineError      5   no space, no permission, no memory: the machine is at fault
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar, Literal


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
    "not a video": Reason("no container that FFmpeg knows, one still picture, or a folder"),
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
    "unreadable": Reason("missing, a pipe or a device, no permission, a failing disk", "machine"),
    "decoder crashed": Reason(
        "the process that decoded it died, or a GPU's decoder could not begin", "machine"
    ),
    "decoder hung": Reason("its decoder made no progress for as long as it may", "machine"),
    "worker died": Reason(
        "the process that computed it was killed, as where memory runs out, with no other video "
        "in work",
        "machine",
    ),
    "out of memory": Reason("its decoder asked for more memory than it may have", "machine"),
}


class CubereelError(Exception):
    """An error whose message is meant for the user; shown without a traceback."""

    exit_code: ClassVar[int] = 1


class UsageError(CubereelError):
    """A path, a name or an option that does not exist or does not fit."""

    exit_code = 2


class ContractError(CubereelError):
    """An input that breaks a promise; nothing was changed."""

    exit_code = 3


class StoreError(ContractError):
    """The state of a store does not allow what was asked."""


class SpecMismatchError(StoreError):
    """The store was written under another spec."""


class BusyError(StoreError):
    """Somebody else is writing the store; wait, and run again."""

    exit_code = 75


class DamageError(StoreError):
    """Bytes in a store are not the bytes that were written."""


class UnsafeStoreError(StoreError):
    """A store that reaches outside itself or lies about its sizes."""


class CoverageError(CubereelError):
    """More videos failed than the gate allows."""

    exit_code = 4


class DecodeError(CubereelError):
    """One video cannot be turned into frames.

    Attributes:
        reason: the class of failure, one of `reasons.REASONS`, as written to the ledger.
    """

    exit_code = 4

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        if reason not in REASONS:
            raise ValueError(f"reason must be one of {', '.join(REASONS)}, got {reason!r}")
        self.reason = reason


class MachineError(CubereelError):
    """The machine failed: no space, no permission, no memory."""

    exit_code = 5


def nearest_name(name: str, known: list[str], *, number: int | None = None) -> str:
    """Say what `name` may have meant, for the end of an unknown-name error.

    Args:
        number: of names that there are, where `known` are not all of them.

    >>> nearest_name("soft-atention", ["mean-pool", "soft-attention"])
    "did you mean 'soft-attention'? There are: mean-pool, soft-attention"
    """
    close = get_close_matches(name, known, n=3)
    hint = f"did you mean {close[0]!r}? " if close else ""
    number = len(known) if number is None else number
    if number > 20:
        return f"{hint}There are {number}" + (f"; nearest: {', '.join(close)}" if close else "")
    return f"{hint}There are: {', '.join(sorted(known))}"
