"""Options that every head has: what it sees of the stored cells, and by which transforms.

Known without torch; `train.heads.cell_inputs` computes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from features_store.errors import UsageError, nearest_name

Motion = Literal["none", "frames", "cubes", "both"]
TransformKind = Literal["sqrt", "l2", "standardise", "pca"]

INPUT_TYPES: dict[str, Any] = {"motion": Motion, "appearance": bool, "input": str}
INPUT_DEFAULTS: dict[str, Any] = {"motion": "none", "appearance": True, "input": "raw"}


@dataclass(frozen=True)
class Transform:
    """One step from a cell's values to what the head sees.

    Attributes:
        size: number of values after "pca"; 0 for the others, which keep it.
    """

    kind: TransformKind
    size: int = 0


@dataclass(frozen=True)
class InputOptions:
    """What the three options say, read and checked.

    Attributes:
        motion: which differences between frames are cells of the head.
        appearance: whether the stored cubes are.
        transforms: of the values of each cell, in order.
    """

    motion: Motion = "none"
    appearance: bool = True
    transforms: tuple[Transform, ...] = ()

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> InputOptions:
        """Return what options say, each of its type; others are passed over, defaults filled in.

        Raises:
            UsageError: nothing is left for the head to see, or there is no such transform.
        """
        said = INPUT_DEFAULTS | dict(options)
        if said["motion"] == "none" and not said["appearance"]:
            raise UsageError(
                "options appearance=false and motion=none leave the head no cells; "
                "give it motion=frames, cubes or both"
            )
        return cls(said["motion"], said["appearance"], parse_transforms(said["input"]))


def parse_transforms(text: str) -> tuple[Transform, ...]:
    """Read ``raw``, or transforms joined by ``+``, in order.

    >>> parse_transforms("sqrt+pca:64")
    (Transform(kind='sqrt', size=0), Transform(kind='pca', size=64))
    >>> parse_transforms("raw")
    ()

    Raises:
        UsageError: there is no such transform, or one without the number it needs.
    """
    if text == "raw":
        return ()
    return tuple(_parse_transform(word) for word in text.split("+"))


def _parse_transform(word: str) -> Transform:
    kind, has_size, size = word.partition(":")
    kinds = list(get_args(TransformKind))
    if kind not in kinds:
        hint = nearest_name(kind, ["raw", *kinds])
        raise UsageError(f"option 'input' has no transform {kind!r}; {hint}")
    if kind == "pca":
        # Not `isdigit`, to which "²" is one.
        if not size.isdecimal() or int(size) < 1:
            raise UsageError(f"option 'input' wants pca:N, N a whole number above 0, got {word!r}")
        return Transform("pca", int(size))
    if has_size:
        raise UsageError(f"option 'input': {kind} takes no number, got {word!r}")
    return Transform(cast(TransformKind, kind))
