"""A verb that takes a dataclass of options gets a flag for each of its fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints


def expand_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb with the fields of its parameter `options` as flags, where that one stands.

    A field is ``name: Annotated[type, typer.Option(...)] = default``.
    """
    signature = inspect.signature(verb, eval_str=True)
    kind = signature.parameters["options"].annotation
    names = [field.name for field in fields(kind)]
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += _flags(kind) if parameter.name == "options" else [parameter]

    def expanded(**given: Any) -> None:
        options = kind(**{name: given.pop(name) for name in names})
        verb(options=options, **given)

    expanded.__doc__, expanded.__name__ = verb.__doc__, verb.__name__
    keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    # typer reads names, types and defaults from here.
    vars(expanded)["__signature__"] = inspect.Signature(keyword)
    expanded.__annotations__ = {each.name: each.annotation for each in keyword}
    return expanded


def _flags(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=_as_list(hints[field.name]),
        )
        for field in fields(kind)
    ]


def _as_list(hint: Any) -> Any:
    """Return a sequence as the list that typer knows."""
    bare, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(bare) is not Sequence:
        return hint
    return Annotated[list[get_args(bare)[0]], *extras]  # type: ignore[misc]
