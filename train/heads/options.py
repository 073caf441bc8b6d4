"""Options of a head: what its constructor declares, and how a word of the command line is read.

The constructor's signature is the only declaration; there is no second table to keep in step.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from features_store.errors import UsageError, nearest_name

_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}
NOT_OPTIONS = {"self", "shape", "num_classes", "tail"}


def declared_options(constructor: Callable[..., None]) -> dict[str, Any]:
    """Return option name to default, in the order of the constructor's signature.

    Raises:
        UsageError: an option has no default.
    """
    parameters = inspect.signature(constructor).parameters
    defaults = {name: p.default for name, p in parameters.items() if name not in NOT_OPTIONS}
    for name, default in defaults.items():
        if default is inspect.Parameter.empty:
            raise UsageError(f"{constructor.__qualname__}: option {name!r} needs a default")
    return defaults


def declared_types(constructor: Callable[..., None]) -> dict[str, Any]:
    """Return option name to annotation.

    Raises:
        UsageError: an option has no default, or an annotation that no word can be read as.
    """
    hints = get_type_hints(constructor)
    types = {name: hints.get(name) for name in declared_options(constructor)}
    for name, kind in types.items():
        if kind not in _PARSERS and get_origin(kind) is not Literal:
            raise UsageError(
                f"{constructor.__qualname__}: option {name!r} must be annotated as bool, int, "
                f"float, str or Literal, got {kind}"
            )
    return types


def refuse_unknown(head: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raise `UsageError` unless `head`, which has the options `known`, has all these options."""
    names = list(known)
    for option in options:
        if option not in names:
            hint = nearest_name(option, names) if names else "it takes none"
            raise UsageError(f"head {head!r} has no option {option!r}; {hint}")


def coerce_options(
    head: str, options: Mapping[str, object], types: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values of a head's options, each as its annotated type.

    Raises:
        UsageError: an option that `types` does not have, or a value that it does not take.
    """
    refuse_unknown(head, options, types)
    try:
        return {key: coerce_option(key, value, types[key]) for key, value in options.items()}
    except UsageError as err:
        raise UsageError(f"head {head!r}: {err}") from None


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


def values_of(annotation: Any) -> list[Any] | str:
    """Return what an option takes: the choices of a Literal, else the type in words.

    >>> values_of(int)
    'a whole number'
    """
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return _PARSERS[annotation][1]


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
