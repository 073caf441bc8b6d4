"""Options of a head: what its constructor declares, and how a word of the command line is read.

The constructor's signature is the only declaration; there is no second table to keep in step. The
bounds of a number stand in its annotation. Pydantic reads values by it, and is imported when there
is one to read: start-up stays light.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le, Lt

from features_store.errors import UsageError, nearest_name
from train.heads.input_options import INPUT_TYPES, InputOptions

PositiveInt = Annotated[int, Ge(1), Le(65536)]
Depth = Annotated[int, Ge(1), Le(64)]  # layers, one upon the other
NonNegativeFloat = Annotated[float, Ge(0)]
Dropout = Annotated[float, Ge(0), Lt(1)]

NOT_OPTIONS = {"self", "shape", "num_classes", "tail"}
_KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a word"}
# As JSON schemas name them, whatever library an annotation takes its bounds from.
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "multipleOf": "a multiple of",
}


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
    """Return option name to annotation, with its bounds.

    Raises:
        UsageError: an option has no default, an annotation that no word can be read as, or the name
            of one that every head has.
    """
    hints = get_type_hints(constructor, include_extras=True)
    types = {name: hints.get(name) for name in declared_options(constructor)}
    if taken := next((name for name in types if name in INPUT_TYPES), None):
        raise UsageError(
            f"{constructor.__qualname__}: every head has an option {taken!r}; name yours otherwise"
        )
    for name, annotation in types.items():
        kind = _without_bounds(annotation)
        if kind not in _KINDS and get_origin(kind) is not Literal:
            raise UsageError(
                f"{constructor.__qualname__}: option {name!r} must be annotated as bool, int, "
                f"float, str or Literal, got {kind}"
            )
    return types


def coerce_options(
    head: str, options: Mapping[str, object], types: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values of a head's options, each as its annotated type.

    Raises:
        UsageError: an option that `types` does not have, or a value that it does not take.
    """
    for option in options:
        if option not in types:
            hint = nearest_name(option, list(types)) if types else "it takes none"
            raise UsageError(f"head {head!r} has no option {option!r}; {hint}")
    try:
        values = {key: coerce_option(key, value, types[key]) for key, value in options.items()}
        InputOptions.read(values)
    except UsageError as err:
        raise UsageError(f"head {head!r}: {err}") from None
    return values


def coerce_option(option: str, value: object, annotation: Any) -> Any:
    """Return `value`, which may be a word of the command line, as the annotated type.

    >>> coerce_option("layers", "3", PositiveInt)
    3
    >>> coerce_option("layers", "none", PositiveInt)
    Traceback (most recent call last):
    features_store.errors.UsageError: option 'layers' must be a whole number, at least 1 ...

    Raises:
        UsageError: the value is not of that type, out of its bounds, or not among the choices.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    adapter = TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))
    values = values_of(annotation)
    read = value
    if isinstance(values, list):
        # Pydantic would not take the word "2" for the choice 2.
        read = next((choice for choice in values if str(choice) == value), value)
    try:
        if isinstance(read, str):
            return adapter.validate_strings(read)
        # No word, hence to be of the type itself: layers=True is a mistake.
        return adapter.validate_python(read, strict=True)
    except ValidationError:
        expected = values if isinstance(values, str) else f"one of {', '.join(map(str, values))}"
        schema = adapter.json_schema()
        bounds = [f"{said} {schema[key]:g}" for key, said in _BOUNDS.items() if key in schema]
        expected += f", {' and '.join(bounds)}" if bounds else ""
        raise UsageError(f"option {option!r} must be {expected}, got {value!r}") from None


def values_of(annotation: Any) -> list[Any] | str:
    """Return what an option takes: the choices of a Literal, else the type in words.

    >>> values_of(PositiveInt)
    'a whole number'
    """
    kind = _without_bounds(annotation)
    return list(get_args(kind)) if get_origin(kind) is Literal else _KINDS[kind]


def check_option(
    option: str,
    value: int | float,
    *,
    at_least: int | float = -math.inf,
    below: int | float = math.inf,
) -> None:
    """Raise `UsageError` unless `at_least` <= `value` < `below`; for bounds that a shape sets."""
    if at_least <= value < below:
        return
    bounds = [f"at least {at_least:g}"] if at_least > -math.inf else []
    bounds += [f"below {below:g}"] if below < math.inf else []
    raise UsageError(f"option {option!r} must be {' and '.join(bounds)}, got {value!r}")


def _without_bounds(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
