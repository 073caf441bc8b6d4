"""What a head of ours says of itself, read from its source: `import torch` would take seconds.

The class, its constructor and its docstring stay the only declaration. What can be read is what
heads have: a class attribute, keyword parameters with a constant as default, and annotations that
are bool, int, float, str, a Literal, one of them with bounds, or a name for one; a contract test
compares it with `inspect`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import annotated_types

from train.heads.names import MODULES
from train.heads.options import NOT_OPTIONS
from train.heads.sources import ModuleSource, find_source

_TYPES = {"bool": bool, "int": int, "float": float, "str": str}


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
    for place, base in _with_bases(source, cls):
        for node in base.body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                options = [(arg, value) for arg, value in pairs if arg.arg not in NOT_OPTIONS]
                types = {arg.arg: _type(place, arg.annotation) for arg, _ in options}
                return types, {arg.arg: _constant(place, value) for arg, value in options}
    raise ValueError(f"class {cls.name} in {source.file} has no constructor")


def _attribute(source: ModuleSource, cls: ast.ClassDef, name: str) -> Any:
    for place, base in _with_bases(source, cls):
        for node in base.body:
            match node:
                case (
                    ast.AnnAssign(target=ast.Name(id=found), value=value)
                    | ast.Assign(targets=[ast.Name(id=found)], value=value)
                ) if found == name:
                    return _constant(place, value)
    raise ValueError(f"class {cls.name} in {source.file} says no {name!r}")


def _with_bases(
    source: ModuleSource, cls: ast.ClassDef
) -> Iterator[tuple[ModuleSource, ast.ClassDef]]:
    """Yield a class and those that it inherits from, each with its module, as far as ours go."""
    yield source, cls
    for base in cls.bases:
        place, node = _look_up(source, ast.unparse(base))
        if isinstance(node, ast.ClassDef):
            yield from _with_bases(place, node)


def _type(source: ModuleSource, annotation: ast.expr | None) -> Any:
    match annotation:
        case ast.Name(id=name) if name in _TYPES:
            return _TYPES[name]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            found = ast.literal_eval(choices)
            return Literal[found]
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, *bounds])):
            return Annotated[_type(source, kind), *(_bound(source, bound) for bound in bounds)]
        case ast.Name(id=name):
            place, node = _look_up(source, name)
            if isinstance(node, ast.Assign):
                return _type(place, node.value)
    said = "nothing" if annotation is None else ast.unparse(annotation)
    raise ValueError(f"{source.file}: an option is a bool, int, float, str or Literal, not {said}")


def _bound(source: ModuleSource, bound: ast.expr) -> Any:
    match bound:
        case ast.Call(func=ast.Name(id=name), args=[limit]) if hasattr(annotated_types, name):
            return getattr(annotated_types, name)(_constant(source, limit))
    raise ValueError(
        f"{source.file}: a bound is a class of annotated_types, not {ast.unparse(bound)}"
    )


def _constant(source: ModuleSource, value: ast.expr | None) -> Any:
    if value is None:
        raise ValueError(f"{source.file}: an option has no default")
    if isinstance(value, ast.Name):
        place, node = _look_up(source, value.id)
        if isinstance(node, ast.Assign):
            return _constant(place, node.value)
    try:
        return ast.literal_eval(value)
    except ValueError:
        raise ValueError(f"{source.file}: {ast.unparse(value)} is no constant") from None


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
