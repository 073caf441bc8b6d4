"""Options of a head: what its constructor declares, and how a word of the command line is read.

The constructor's signature is the only declaration; there is no second table to keep in step.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from features_store.errors import UsageError

_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}
_NOT_OPTIONS = {"self", "shape", "num_classes", "tail"}


def declared_options(constructor: Callable[..., None]) -> dict[str, Any]:
    """Return option name to default, in the order of the constructor's signature."""
    parameters = inspect.signature(constructor).parameters
    return {name: p.default for name, p in parameters.items() if name not in _NOT_OPTIONS}


def declared_types(constructor: Callable[..., None]) -> dict[str, Any]:
    """Return option name to annotation."""
    hints = get_type_hints(constructor)
    return {name: hints[name] for name in declared_options(constructor)}


def coerce_option(option: str, value: object, annotation: Any) -> Any:
    """Return `value`, which may be a word of the command line, as the annotated type.

    >>> coerce_option("layers", "3", int)
    3
    >>> coerce_option("layers", "three", int)
    Traceback (most recent call last):
    features_store.errors.UsageError: option 'layers' must be a whole number, got 'three'

    Raises:
        UsageError: the value is not of that type or not among the choices.
    """
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        expected = f"one of {', '.join(map(str, choices))}"
        parsed = next((choice for choice in choices if str(choice) == str(value)), None)
    else:
        parse, expected = _PARSERS[annotation]
        parsed = parse(value)
    if parsed is None:
        raise UsageError(f"option {option!r} must be {expected}, got {value!r}")
    return parsed


def check_option(
    option: str,
    value: int | float,
    *,
    at_least: int | float = -math.inf,
    below: int | float = math.inf,
) -> None:
    """Raise `UsageError` unless `at_least` <= `value` < `below`."""
    if at_least <= value < below:
        return
    bounds = [f"at least {at_least:g}"] if at_least > -math.inf else []
    bounds += [f"below {below:g}"] if below < math.inf else []
    raise UsageError(f"option {option!r} must be {' and '.join(bounds)}, got {value!r}")


def _parse_bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else _WORDS.get(str(value).lower())


def _parse_int(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None  # a bool is an int to Python, but layers=True is a mistake
    try:
        return int(value)
    except ValueError:
        return None


def _parse_float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _parse_str(value: object) -> str | None:
    return value if isinstance(value, str) else None


_PARSERS: dict[type, tuple[Callable[[object], Any], str]] = {
    bool: (_parse_bool, "true or false"),
    int: (_parse_int, "a whole number"),
    float: (_parse_float, "a finite number"),
    str: (_parse_str, "a word"),
}
