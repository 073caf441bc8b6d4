"""What must agree before two cubes may be called the same feature.

Everything that changes a number in a cube belongs in `Spec` and so in its digest. What does not
(layers, dtype, compression, paths, library versions) is listed in `store.json` beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

from features_store.errors import SpecMismatchError, StoreError, UsageError

Json = Mapping[str, Any] | list[Any] | str | int | float | bool | None
Fit = Literal["crop", "stretch", "pad"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded frame becomes the numbers that the backbone sees.

    Attributes:
        input_size: height and width of the backbone's input, in pixels.
        resize_size: shorter side before the centre crop; used by ``fit="crop"`` alone.
        fit: ``crop`` the centre, ``stretch`` both sides, or ``pad`` with black.
        interpolation: of the scaler.
        mean, std: per channel in `channel_order`, of pixels divided by `pixel_scale`.
        pixel_scale: 255 for networks fed 0…1, 1 for those fed 0…255.
        channel_order: of the backbone's input.
    """

    input_size: tuple[int, int]
    resize_size: int
    fit: Fit
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pixel_scale: float
    channel_order: Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Sampling:
    """Which frames are kept: ``fps`` a second by pts, or every ``stride``-th decoded one."""

    kind: Literal["fps", "stride"]
    value: str

    @classmethod
    def parse(cls, *, fps: str | None = None, stride: int | None = None) -> Sampling:
        """Return the sampling for one of two options; neither means every frame.

        >>> Sampling.parse(fps="10.0")
        Sampling(kind='fps', value='10')
        """
        if fps is not None and stride is not None:
            raise UsageError("--fps and --stride exclude each other; give one of them")
        if fps is None:
            if stride is not None and stride < 1:
                raise UsageError(f"--stride must be at least 1, got {stride}")
            return cls("stride", str(stride or 1))
        try:
            rate = Fraction(fps)
        except (ValueError, ZeroDivisionError):
            raise UsageError(
                f"--fps must be a number such as 10 or 30000/1001, got {fps!r}"
            ) from None
        if rate <= 0:
            raise UsageError(f"--fps must be positive, got {fps}")
        return cls("fps", str(rate))


@dataclass(frozen=True)
class Spec:
    """All that computes a number; two stores with equal digests hold the same features."""

    backbone: str
    weights_sha256: str
    preprocessing: Preprocessing
    sampling: Sampling
    diffs: str
    precision: Precision
    decoder: str

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Spec:
        """Rebuild a spec; raise `StoreError` when a field is missing or unknown."""
        try:
            fields = dict(document)
            preprocessing = dict(fields.pop("preprocessing"))
            for name in ("input_size", "mean", "std"):
                preprocessing[name] = tuple(preprocessing[name])
            return cls(
                preprocessing=Preprocessing(**preprocessing),
                sampling=Sampling(**fields.pop("sampling")),
                **fields,
            )
        except (KeyError, TypeError) as err:
            raise StoreError(f"the spec in store.json cannot be read: {err}") from err

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(canonical_json(self.to_json())).hexdigest()


def canonical_json(document: Json | Mapping[str, Any]) -> bytes:
    r"""Return the one byte string that stands for a JSON document (FORMAT.md, "Canonical JSON").

    >>> canonical_json({"b": 1.0, "a": [1, None]})
    b'{"a":[1,null],"b":1.0}'
    """
    text = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return text.encode("ascii")


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted names and their values.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def spec_differences(stored: Spec, wanted: Spec) -> list[tuple[str, Any, Any]]:
    """Return (dotted field, stored value, wanted value) of every field that differs."""
    ours, theirs = flatten(stored.to_json()), flatten(wanted.to_json())
    return [(name, ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]]


def require_same_spec(stored: Spec, wanted: Spec, *, store: str) -> None:
    """Raise `SpecMismatchError` naming each field that differs."""
    differences = spec_differences(stored, wanted)
    if differences:
        lines = [f"  {name}: store has {a!r}, caller wants {b!r}" for name, a, b in differences]
        raise SpecMismatchError(
            f"{store} was written under another spec\n"
            + "\n".join(lines)
            + "\nwrite to another store, or repeat the options the store was made with"
        )
