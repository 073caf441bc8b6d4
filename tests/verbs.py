"""All verbs of the command line and what each takes, found in the Typer app itself."""

import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from typer.models import ArgumentInfo

from features_store.paths import PathKind
from pipelines.cli.main import app


@dataclass(frozen=True)
class Parameter:
    """One argument or option of a verb.

    Attributes:
        flag: as it is written; empty for an argument.
        type: of one value.
        kind: of the thing that must lie at a path; None where it is not checked.
    """

    name: str
    flag: str
    type: Any
    is_needed: bool
    kind: PathKind | None

    @property
    def is_path(self) -> bool:
        return self.type is Path

    @property
    def is_free(self) -> bool:
        """Whether any text may be given, as far as the type says."""
        return self.type is str


@dataclass(frozen=True)
class Verb:
    words: tuple[str, ...]
    parameters: tuple[Parameter, ...]

    def __str__(self) -> str:
        return " ".join(self.words)

    def line(self, values: dict[str, Any]) -> list[str]:
        """Return a command line with what is needed, and what else `values` has by name."""
        line = list(self.words)
        for each in self.parameters:
            if each.name not in values:
                assert not each.is_needed, f"{self} needs {each.name}; add it to the test's values"
                continue
            value = values[each.name]
            given = value if isinstance(value, list) else [value]
            line += [str(w) for v in given for w in ((each.flag, v) if each.flag else (v,))]
        return line


def all_verbs(of: typer.Typer = app, words: tuple[str, ...] = ()) -> Iterator[Verb]:
    for info in of.registered_commands:
        assert info.callback is not None
        name = info.name or info.callback.__name__.replace("_", "-")
        signature = inspect.signature(info.callback, eval_str=True)
        yield Verb((*words, name), tuple(map(_parameter, signature.parameters.values())))
    for group in of.registered_groups:
        assert group.typer_instance is not None
        yield from all_verbs(group.typer_instance, (*words, str(group.name)))


def _parameter(said: inspect.Parameter) -> Parameter:
    assert get_origin(said.annotation) is Annotated, said
    kind, info = get_args(said.annotation)
    # typer has the first flag where a default would stand without `Annotated`.
    flags = [f for f in (info.default, *(info.param_decls or ())) if isinstance(f, str)]
    flag = next((f for f in flags if f.startswith("--")), f"--{said.name.replace('_', '-')}")
    return Parameter(
        said.name,
        "" if isinstance(info, ArgumentInfo) else flag,
        _one_of(kind),
        said.default is inspect.Parameter.empty,
        getattr(info.callback, "__self__", None),
    )


def _one_of(kind: Any) -> Any:
    """Return the type of one value of an option that may be left out or repeated."""
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (each for each in get_args(kind) if each is not type(None))
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
    return Literal if get_origin(kind) is Literal else kind
