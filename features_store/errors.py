"""Every error that a user can cause or meet, and the exit code that the command line gives it.

CubereelError
├── UsageError        2   a name or an option that does not exist or does not fit
├── ContractError     3   an input that breaks a promise: wrong weights, no labels, an empty split
│   └── StoreError    3   the state of a store
│       ├── SpecMismatchError    the store was written under another spec
│       ├── DamageError          bytes are not what was written
│       └── UnsafeStoreError     a shared store that reaches outside itself
├── CoverageError     4   more videos failed than the gate allows
├── DecodeError       4   one video cannot be turned into frames; never stops a run
└── MachineError      5   no space, no permission, no memory: mend it and run again
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import ClassVar

from features_store.reasons import REASONS


class CubereelError(Exception):
    """An error whose message is meant for the user; shown without a traceback."""

    exit_code: ClassVar[int] = 1


class UsageError(CubereelError):
    """A name or an option that does not exist or does not fit."""

    exit_code = 2


class ContractError(CubereelError):
    """An input that breaks a promise; nothing was changed."""

    exit_code = 3


class StoreError(ContractError):
    """The state of a store does not allow what was asked."""


class SpecMismatchError(StoreError):
    """The store was written under another spec."""


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


def nearest_name(name: str, known: list[str]) -> str:
    """Say what `name` may have meant, for the end of an unknown-name error.

    >>> nearest_name("soft-atention", ["mean-pool", "soft-attention"])
    "did you mean 'soft-attention'? There are: mean-pool, soft-attention"
    """
    close = get_close_matches(name, known, n=3)
    hint = f"did you mean {close[0]!r}? " if close else ""
    if len(known) > 20:
        return f"{hint}There are {len(known)}" + (f"; nearest: {', '.join(close)}" if close else "")
    return f"{hint}There are: {', '.join(sorted(known))}"
