"""What a head of ours says of itself, read from its source: `import torch` would take seconds.

The class, its constructor and its docstring stay the only declaration. What can be read is what
heads have: a class attribute, keyword parameters with a constant as default, and annotations that
are bool, int, float, str, a Literal, one of them with bounds, or a name for one that a module of
ours assigns; a contract test compares it with `inspect`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from train.heads.input_options import INPUT_DEFAULTS, INPUT_TYPES
from train.heads.names import MODULES
from train.heads.options import NOT_OPTIONS
from train.heads.sources import ModuleSource, find_source

_KNOWN: dict[str, Any] = {"bool": bool, "int": int, "float": float, "str": str}
_KNOWN |= {"Annotated": Annotated, "Literal": Literal}
_BOUNDS = {"Ge": Ge, "Gt": Gt, "Le": Le, "Lt": Lt}


@dataclass(frozen=True)
class DeclaredHead:
    """A head without its class.

    Attributes:
        about: first line of its docstring.
        source: the paper and the place in it, as `Head.source`.
        types, defaults: of each option.
    """

    about: str
    source: str
    types: dict[str, Any]
    defaults: dict[str, Any]


@cache
def declared_head(name: str) -> DeclaredHead:
    """Return what the head that `MODULES` has under this name declares.

    Raises:
        ValueError: its module has no such head, or one that says something else than constants.
    """
    source = _source(MODULES[name])
    decorated = (cls for cls in source.classes.values() if _registered_name(cls) == name)
    cls = next(decorated, None)
    if cls is None:
        raise ValueError(f"{source.file} has no class with @register_head({name!r})")
    types, defaults = _options(source, cls)
    if not _attribute(source, cls, "takes_tail"):
        types, defaults = types | INPUT_TYPES, defaults | INPUT_DEFAULTS
    about = (ast.get_docstring(cls) or "").partition("\n")[0]
    return DeclaredHead(about, str(_attribute(source, cls, "source")), types, defaults)


def _registered_name(cls: ast.ClassDef) -> str | None:
    for decorator in cls.decorator_list:
        match decorator:
            case ast.Call(func=ast.Name(id="register_head"), args=[ast.Constant(value=str(name))]):
                return name
    return None


def _options(source: ModuleSource, cls: ast.ClassDef) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return annotation and default of each option of the constructor, its own or inherited."""
    for place, node in _members(source, cls):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            options = [(arg, value) for arg, value in pairs if arg.arg not in NOT_OPTIONS]
            types = {arg.arg: _evaluate(place, arg.annotation) for arg, _ in options}
            return types, {arg.arg: _evaluate(place, value) for arg, value in options}
    raise ValueError(f"class {cls.name} in {source.file} has no constructor")


def _attribute(source: ModuleSource, cls: ast.ClassDef, name: str) -> Any:
    for place, node in _members(source, cls):
        match node:
            case (
                ast.AnnAssign(target=ast.Name(id=found), value=value)
                | ast.Assign(targets=[ast.Name(id=found)], value=value)
            ) if found == name:
                return _evaluate(place, value)
    raise ValueError(f"class {cls.name} in {source.file} says no {name!r}")


def _members(source: ModuleSource, cls: ast.ClassDef) -> Iterator[tuple[ModuleSource, ast.stmt]]:
    """Yield what stands in a class and those that it inherits from, with its module."""
    yield from ((source, node) for node in cls.body)
    for base in cls.bases:
        place, node = _look_up(source, ast.unparse(base))
        if isinstance(node, ast.ClassDef):
            yield from _members(place, node)


def _evaluate(source: ModuleSource, expression: ast.expr | None) -> Any:
    """Return the value of an annotation or a default; nothing is run."""
    match expression:
        case ast.Name(id=name) if name in _KNOWN:
            return _KNOWN[name]
        case ast.Name(id=name):
            place, assigned = _look_up(source, name)
            if isinstance(assigned, ast.Assign):
                return _evaluate(place, assigned.value)
        case ast.Subscript(value=ast.Name(), slice=ast.Tuple(elts=parts)):
            return _evaluate(source, expression.value)[tuple(_evaluate(source, p) for p in parts)]
        case ast.Subscript(value=ast.Name(), slice=part):
            return _evaluate(source, expression.value)[_evaluate(source, part)]
        case ast.Call(func=ast.Name(id=name), args=[bound]) if name in _BOUNDS:
            return _BOUNDS[name](_evaluate(source, bound))
        case ast.expr():
            with suppress(ValueError):
                return ast.literal_eval(expression)
    said = "nothing" if expression is None else ast.unparse(expression)
    raise ValueError(f"{source.file}: an option needs a type and a constant, not {said}")


def _look_up(source: ModuleSource, name: str) -> tuple[ModuleSource, ast.stmt | None]:
    """Return the class or the assignment that a name stands for, and the module it is in."""
    for node in source.tree.body:
        match node:
            case ast.ClassDef(name=found) | ast.Assign(targets=[ast.Name(id=found)]):
                if found == name:
                    return source, node
            case ast.ImportFrom(module=str(module), names=aliases) if module.startswith("train."):
                for alias in aliases:
                    if name == (alias.asname or alias.name):
                        return _look_up(_source(module), alias.name)
    return source, None


@cache
def _source(module: str) -> ModuleSource:
    found = find_source(module)
    if found is None:
        raise ValueError(f"module {module} has no Python source")
    return found
