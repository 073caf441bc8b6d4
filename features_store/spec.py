"""What must agree before two cubes may be called the same feature.

Everything that changes a number in a cube belongs in `Spec` and so in its digest. What does not
(layers, dtype, compression, paths, library versions) is listed in `store.json` beside it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from features_store.errors import SpecMismatchError, StoreError, UsageError
from features_store.plain import from_plain, to_plain

Json = Mapping[str, Any] | list[Any] | str | int | float | bool | None
Fit = Literal["crop", "stretch", "pad"]
SamplingKind = Literal["fps", "stride", "count", "segments"]  # each a file in extract/sampling
Precision = Literal["fp32", "bf16"]
Number = int | float  # a whole number stays one: the digest is of the text in JSON
# Rules of FORMAT.md by which numbers were made, "Times" and "Pixels"; 0 where nobody knows.
TIME_RULE, PIXEL_RULE = 1, 1
MAX_SIDE = 2**14  # of a network's input, in pixels
MAX_TEXT = 2**10  # characters of a name in a spec
# Bounded, since a text such as "1e999999999" would fill the memory as a fraction.
MAX_RATE, MAX_RATE_SIGNS = 1_000_000, 100
_RATE = re.compile(r"-?(\d{1,20}/\d{1,20}|(\d{1,20}\.?\d{0,20}|\.\d{1,20})([eE][+-]?\d{1,2})?)")
_STRIDE = re.compile(r"[0-9.e+-]{1,30}|unknown")
MAX_DRAWN_FRAMES = 2**16  # of a video, in all its draws; a record lists them


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
    mean: tuple[Number, Number, Number]
    std: tuple[Number, Number, Number]
    pixel_scale: Number
    channel_order: Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Sampling:
    """Which frames are kept (FORMAT.md, "Sampling").

    Attributes:
        kind: ``fps`` a second by pts, every ``stride``-th decoded one, a ``count`` of frames
            evenly spaced in time, or the centre of each of a number of ``segments``.
        value: frames a second, the stride, how many frames, how many segments.
        jitter: random draws of a frame from each segment, beside that of the centres.
        seed: of these draws.
    """

    kind: SamplingKind
    value: str
    jitter: int = 0
    seed: int = 0

    @classmethod
    def parse(
        cls,
        *,
        fps: str | None = None,
        stride: int | None = None,
        count: int | None = None,
        segments: int | None = None,
        jitter: int = 0,
        seed: int = 0,
    ) -> Sampling:
        """Return the sampling for one of four options; none means every frame.

        >>> Sampling.parse(fps="10.0").value
        '10'
        """
        given = {"fps": fps, "stride": stride, "count": count, "segments": segments}
        options = [f"`{name}`" for name, value in given.items() if value is not None]
        if len(options) > 1:
            raise UsageError(f"{' and '.join(options)} exclude each other; give one of them")
        if (jitter or seed) and segments is None:
            raise UsageError("`jitter` and `seed` are for draws from `segments`; give that too")
        if min(jitter, seed) < 0 or seed >= 2**63:
            raise UsageError(f"`jitter` and `seed` must not be negative, got {jitter} and {seed}")
        if seed and not jitter:
            raise UsageError(f"`seed` {seed} is for random draws; say with `jitter` how many")
        if fps is not None:
            return cls("fps", _parse_rate(fps))
        for kind, number in (("stride", stride), ("count", count), ("segments", segments)):
            if number is not None and number < 1:
                raise UsageError(f"`{kind}` must be at least 1, got {number}")
            if number is not None and number >= 2**31:
                raise UsageError(f"`{kind}` must be below 2**31, got {number}")
        drawn = (1 + jitter) * (count or segments or 0)
        if drawn > MAX_DRAWN_FRAMES:
            raise UsageError(
                f"{drawn} frames are more than the {MAX_DRAWN_FRAMES} that a video may have by "
                "their number; lower it, or take `fps` or `stride`"
            )
        if count is not None:
            return cls("count", str(count))
        if segments is not None:
            return cls("segments", str(segments), jitter, seed)
        return cls("stride", str(stride or 1))

    @property
    def options(self) -> dict[str, Any]:
        """What `parse` makes this of.

        >>> Sampling.parse(segments=8, jitter=2).options
        {'segments': 8, 'jitter': 2, 'seed': 0}
        """
        value = self.value if self.kind == "fps" else int(self.value)
        return {self.kind: value} | (
            {"jitter": self.jitter, "seed": self.seed} if self.jitter else {}
        )

    @property
    def is_sparse(self) -> bool:
        """Whether kept frames may be far apart, so that differences are to the decoded one before.

        `count` and `segments` alone.
        """
        return self.kind in ("count", "segments")

    @property
    def draws_shape(self) -> tuple[int, int] | None:
        """R draws of S rows that every video has; None where nothing is drawn."""
        return (1 + self.jitter, int(self.value)) if self.jitter else None

    def to_json(self) -> dict[str, Any]:
        """Return what the spec says, without what this kind of sampling does not have."""
        document: dict[str, Any] = to_plain(self)
        return document if self.jitter else {"kind": self.kind, "value": self.value}

    def check(self) -> None:
        """Raise `ValueError` or `UsageError` for what `parse` does not make."""
        is_understood = not self.jitter
        if self.kind == "fps":
            is_understood = is_understood and _parse_rate(self.value) == self.value
        elif self.kind == "stride":  # imported features may have one that is no number
            is_understood = is_understood and _STRIDE.fullmatch(self.value) is not None
        else:
            is_understood = len(self.value) <= MAX_TEXT and Sampling.parse(**self.options) == self
        if not is_understood:
            raise ValueError(f"the sampling cannot be understood: {str(self)[:200]}")


def _parse_rate(fps: str) -> str:
    try:
        rate = Fraction(fps if _RATE.fullmatch(fps.strip()) else "")
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"`fps` must be a number such as 10 or 30000/1001, got {fps[:MAX_RATE_SIGNS]!r}"
        ) from None
    if not 0 < rate <= MAX_RATE:
        raise UsageError(f"`fps` must be positive and at most {MAX_RATE}, got {fps}")
    return str(rate)


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
    time_rule: int = TIME_RULE
    pixel_rule: int = PIXEL_RULE

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers."""
        document: dict[str, Any] = to_plain(self)
        return document | {"sampling": self.sampling.to_json()}

    @classmethod
    def from_json(cls, document: object) -> Spec:
        """Rebuild a spec; raise `StoreError` for a field that is missing, unknown or wrong."""
        try:
            spec = from_plain(cls, document)
            spec.check()
        except (ValueError, UsageError) as err:
            raise StoreError(f"the spec in store.json cannot be read: {err}") from err
        return spec

    def check(self) -> None:
        """Raise `ValueError` or `UsageError` for numbers and texts that no spec has."""
        self.sampling.check()
        sides = (*self.preprocessing.input_size, self.preprocessing.resize_size)
        if not all(0 <= side <= MAX_SIDE for side in sides):
            raise ValueError(f"pictures of {sides} pixels are none of 0 to {MAX_SIDE}")
        if 0 in (self.preprocessing.pixel_scale, *self.preprocessing.std):
            raise ValueError("pixels cannot be divided by a pixel scale or standard deviation of 0")
        for name in ("backbone", "weights_sha256", "diffs", "decoder"):
            if len(getattr(self, name)) > MAX_TEXT:
                raise ValueError(f"{name} has more than {MAX_TEXT} characters")

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
    return [
        (name, ours.get(name), theirs.get(name))
        for name in ours | theirs
        if ours.get(name) != theirs.get(name)
    ]


def require_same_spec(ours: Spec, theirs: Spec, *, of: str, than: str, advice: str) -> None:
    """Raise `SpecMismatchError` naming each field that differs, and what to do.

    Args:
        of, than: whose spec `ours` and `theirs` are, in words.
    """
    differences = spec_differences(ours, theirs)
    if differences:
        lines = [f"  {name}: {a!r}, not {b!r}" for name, a, b in differences]
        raise SpecMismatchError("\n".join([f"{of} has another spec than {than}", *lines, advice]))
