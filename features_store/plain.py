"""The one codec between JSON documents and frozen dataclasses, strict in what it reads.

A document is what `json.loads` returns, and may be hostile. Types are exact (no bool for a number,
no text for a list, a whole number stands for a float), literals and lengths of tuples are checked,
every key must be a field, every float finite. What a dataclass refuses itself it refuses here too.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from math import isfinite
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
# Bounded, since a text such as "1e999999999" would fill the memory as a fraction.
FRACTION = re.compile(r"-?[0-9]{1,40}(/[1-9][0-9]{0,39})?")
_PLACE = re.compile(r"(?P<what>.+?)(?: - at (?:`key` in )?`\$(?P<where>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


class PlainError(ValueError):
    """A document is not that of the dataclass; the caller says which file it is from."""


def to_plain(value: object) -> Any:
    """Return dicts, lists, texts and numbers; fractions become texts such as ``30000/1001``.

    Floats that are not finite stay what they are: whoever writes them decides.
    """
    from msgspec import to_builtins  # here: it takes as long to import as all of the errors

    # By way of JSON, so that tuples are lists as they will be when they are read again.
    return json.loads(json.dumps(to_builtins(value, enc_hook=_builtin)))


def from_plain(kind: type[T], document: Any) -> T:
    """Return the value of that type which a document describes.

    Raises:
        PlainError: it describes none. Says where, what stands there, what was expected.
        CubereelError: as raised by a dataclass of its own values.
    """
    from msgspec import ValidationError, convert

    try:
        value = convert(document, kind, dec_hook=_fraction)
        _check(value, document, "")
    except ValidationError as err:
        raise PlainError(_explained(str(err), kind, document)) from None
    except RecursionError:
        raise PlainError("it is nested too deeply") from None
    except UnicodeEncodeError as err:
        raise PlainError(f"a text in it is none: {err}") from None
    return value


def _builtin(value: object) -> str | dict[Any, Any]:
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON: {value!r}")


def _fraction(kind: type, value: object) -> Fraction:
    if kind is Fraction and isinstance(value, str) and FRACTION.fullmatch(value):
        return Fraction(value)
    raise ValueError("Expected a fraction such as 25 or 30000/1001")


def _check(value: Any, document: Any, where: str) -> None:
    """Refuse what msgspec lets pass: keys that are no fields, floats that are not finite."""
    if value is None or isinstance(value, str | int):
        return
    if isinstance(value, float):
        if not isfinite(value):
            raise PlainError(f"{where or 'it'} is {value}, expected a finite number")
    elif is_dataclass(value):
        names = [field.name for field in fields(value)]
        for key in document:
            at = f"{where}.{key}" if where else str(key)
            if key not in names:
                raise PlainError(f"there is no field {at!r}; expected {', '.join(names)}")
            _check(getattr(value, key), document[key], at)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            _check(each, document[key], f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for position, each in enumerate(value):
            _check(each, document[position], f"{where}[{position}]")


def _explained(message: str, kind: Any, document: Any) -> str:
    """Say what stands at the place that a message of msgspec names, and what was expected there."""
    found = _PLACE.fullmatch(message)
    what = message if found is None else found["what"]
    where = "" if found is None else (found["where"] or "").removeprefix(".")
    what = what[0].lower() + what[1:].replace("`", "").replace(" | ", " or ")
    value: Any = document
    for name, number in _STEP.findall(where):
        kind = _kind_within(kind, name)
        try:
            value = value[int(number) if number else name]
        except (KeyError, TypeError):  # the place is a key, or the value of any key
            return f"{where}: {what}"
    if what.startswith("object missing"):
        return f"{where or 'it'} lacks the field {what.split()[-1]}"
    if get_origin(kind) is Literal:
        what = f"expected {' or '.join(map(str, get_args(kind)))}"
    return f"{where or 'it'} is {reprlib.repr(value)}, {what}"


def _kind_within(kind: Any, name: str) -> Any:
    """Return the type of a field, or of any element; None where it cannot be told."""
    if name and is_dataclass(kind):
        return get_type_hints(kind).get(name)
    parts = [part for part in get_args(kind) if part not in (type(None), Ellipsis)]
    if get_origin(kind) in (Union, UnionType):
        return _kind_within(parts[0], name) if len(parts) == 1 else None
    return parts[-1] if parts else None
