"""A verb that takes a dataclass of options gets a flag for each of its fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typer import Option

from features_store.paths import PathKind


def expand_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb with the fields of its parameter `options` as flags, where that one stands.

    A field is ``name: Annotated[type, typer.Option(...)] = default``, or has the help alone, as a
    text, where the options are those of a room that knows no command line; of a path also its kind.
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


def flags_of(options: Any) -> list[str]:
    """Return what says the same on a command line; paths absolute, defaults left out."""
    hints = get_type_hints(type(options), include_extras=True)
    said: list[str] = []
    for field in fields(options):
        value = getattr(options, field.name)
        if value == field.default:
            continue
        flag = _flag_of(field.name, hints[field.name])
        if isinstance(value, Path):
            value = value.absolute()
        if isinstance(value, bool):
            said.append(flag)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            said += [text for each in value for text in (flag, str(each))]
        else:
            said += [flag, str(value)]
    return said


def flag_names(kind: Any, names: Sequence[str]) -> dict[str, str]:
    """Return flag without dashes before it -> name, of some fields of a dataclass of options."""
    hints = get_type_hints(kind, include_extras=True)
    return {_flag_of(name, hints[name]).removeprefix("--"): name for name in names}


def _flag_of(name: str, hint: Any) -> str:
    _, *extras = get_args(_as_flag(name, hint))
    # typer has the first name where the default would stand without `Annotated`.
    said = [each for extra in extras for each in (extra.default, *(extra.param_decls or ()))]
    flags = [each for each in said if isinstance(each, str) and each.startswith("--")]
    return flags[0] if flags else f"--{name.replace('_', '-')}"


def _flags(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=_as_flag(field.name, hints[field.name]),
        )
        for field in fields(kind)
    ]


def _as_flag(name: str, hint: Any) -> Any:
    """Return a hint as typer knows it: of a sequence a list, of a text an option with that help."""
    bare, *extras = get_args(hint)
    kind = list[get_args(bare)[0]] if get_origin(bare) is Sequence else bare  # type: ignore[misc]
    if kind is not bare:
        name = name.removesuffix("s")  # --layer, which is given several times
    flag = f"--{name.replace('_', '-')}"  # said, so that there is no --no-… of a bool
    check = next((each.checked for each in extras if isinstance(each, PathKind)), {})
    options = [
        Option(flag, help=each, **check) if isinstance(each, str) else each
        for each in extras
        if not isinstance(each, PathKind)
    ]
    return Annotated[kind, *options]
